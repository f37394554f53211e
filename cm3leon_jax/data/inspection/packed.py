"""How long a task's sequences are, and how they fill the rows of the training stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.objective import Example, Objective
from cm3leon_jax.data.packing import ids_of_masks, pack
from cm3leon_jax.data.settings import StreamConfig
from cm3leon_jax.pages.histogram import histogram
from cm3leon_jax.pages.pieces import section, tiles

SAMPLE = 512  # sequences packed to learn how they fill rows
_ENOUGH_ROWS = 20  # of fewer, the ids behind the last would be too large a part
_FATE = {"straddle": "they go on in the next row", "whole": "they are cut at the row's end"}
_HELD = {"straddle": "on average, each part of one counted", "whole": "on average"}


def packed_section(examples: Sequence[Example], config: StreamConfig, objective: Objective) -> str:
    """Packs some examples as the stream does."""
    lengths = np.array([len(example.ids) for example in examples])
    # Their numbers go where the stream has the number of retrieved documents: so rows say which examples they hold.
    numbered = [dataclasses.replace(example, retrieved=number) for number, example in enumerate(examples, start=1)]
    rows = list(pack(numbered, config, objective))
    full = rows[:-1] if config.packing == "whole" and len(rows) > 1 else rows  # the last holds what was left
    held = [len(np.unique(row["retrieved"][row["segments"] > 0])) for row in full]
    filled = [float((row["segments"] > 0).mean()) for row in full]
    longer = float((lengths > config.length + 1).mean())
    figures = [(f"Longer than a row of {config.length:,}", f"{longer:.1%}", _FATE[config.packing])]
    if full and config.packing == "whole":
        figures.append(("Not padding", f"{np.mean(filled):.1%}", "of the tokens of a row, on average"))
    elif len(rows) >= _ENOUGH_ROWS:
        # The ids before the first row and behind the last, half a row each on average, are not left out.
        own = len(rows) * (config.length + 1) - ids_of_masks(rows, objective.vocabulary)
        used = own / (lengths.sum() - config.length)
        meaning = "of all tokens, about"
        if not config.begin_inside_images:
            meaning += "; not the rest of an image that a row cut through"
        figures.append(("Used", f"{min(used, 1.0):.0%}", meaning))
    if full:
        figures.append(("Sequences a row", f"{np.mean(held):.2f}", _HELD[config.packing]))
    charts = [
        histogram("Sequence lengths", lengths, x_label="tokens", counted="sequences"),
        histogram("Sequences a row", held, x_label="sequences", counted="rows"),
    ]
    if config.packing == "whole":  # else there is none
        filling = np.multiply(filled, 100)
        charts.append(histogram("Not padding", filling, x_label="% of a row's tokens", counted="rows"))
    return section(
        "packing",
        "Lengths and packing",
        f"{len(examples):,} sequences of the task, drawn at random and packed with StreamConfig.length = "
        f"{config.length} and StreamConfig.packing = '{config.packing}'."
        + ("" if full else " They are too short to fill one row: nothing can be said about packing."),
        tiles(figures),
        f'<div class="charts">{"".join(charts)}</div>',
    )
