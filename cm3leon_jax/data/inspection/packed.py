"""How long a task's sequences are, and how they fill the rows of the training stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.packing import Example
from cm3leon_jax.data.settings import StreamConfig
from cm3leon_jax.data.stream import pack
from cm3leon_jax.pages.histogram import histogram
from cm3leon_jax.pages.pieces import section, tiles
from cm3leon_jax.vocabulary import Vocabulary

SAMPLE = 512  # sequences packed to learn how they fill rows
_ENOUGH_ROWS = 20  # of fewer, the ids behind the last would be too large a part
_FATE = {"straddle": "they go on in the next row", "whole": "they are cut at the row's end"}
_HELD = {"straddle": "on average, each part of one counted", "whole": "on average"}


def packed_section(sequences: Sequence[np.ndarray], config: StreamConfig, vocabulary: Vocabulary) -> str:
    """Packs ids int32 [n] of some sequences as the stream does."""
    lengths = np.array([len(ids) for ids in sequences])
    # Their numbers go where the stream has the number of retrieved documents: so rows say which sequences they hold.
    numbered = [Example(ids, retrieved=number) for number, ids in enumerate(sequences, start=1)]
    rows = list(pack(numbered, config, vocabulary))
    full = rows[:-1] if config.packing == "whole" and len(rows) > 1 else rows  # the last holds what was left
    held = [len(np.unique(row["retrieved"][row["weights"] > 0])) for row in full]
    filled = [float(row["weights"].mean()) for row in full]
    longer = float((lengths > config.length + 1).mean())
    figures = [(f"Longer than a row of {config.length:,}", f"{longer:.1%}", _FATE[config.packing])]
    if full and config.packing == "whole":
        figures.append(("Not padding", f"{np.mean(filled):.1%}", "of the tokens of a row, on average"))
    elif len(rows) >= _ENOUGH_ROWS:
        # The ids behind the last row, half a row on average, are still waiting, not left out.
        used = len(rows) * (config.length + 1) / (lengths.sum() - config.length / 2)
        meaning = "of all tokens, about; not the rest of an image that a row cut through"
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
        f"{len(sequences):,} sequences of the task, drawn at random and packed with StreamConfig.length = "
        f"{config.length} and StreamConfig.packing = '{config.packing}'."
        + ("" if full else " They are too short to fill one row: nothing can be said about packing."),
        tiles(figures),
        f'<div class="charts">{"".join(charts)}</div>',
    )
