"""The report's loss curves, and the decoder's held-out losses by the number of retrieved documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from cm3leon_jax.pages.charts import Series, line_chart
from cm3leon_jax.pages.pieces import command, section, table

TITLES = {"decoder": "Decoder", "image_tokenizer": "Image tokenizer", "retriever": "Retriever"}
MOST_LINES = 4  # names on one chart, as many as there are colours
_RETRIEVED = re.compile(r"(?P<name>.+)_retrieved_(?P<count>\d+)")


def losses_section(metrics: Mapping[str, Sequence[Mapping]]) -> str:
    """`metrics`: model (a key of `TITLES`) -> the rows of its metrics.jsonl."""
    charts = "".join(
        line_chart(title, loss_series(metrics.get(model, ())), note="Solid: training. Dashed: held out.")
        for model, title in TITLES.items()
    )
    return section(
        "curves",
        "Losses",
        "The decoder's is the mean cross-entropy in nats a token, over all tokens and by modality; its held-out values "
        "are those with the most retrieved documents. The others' are each model's own.",
        f'<div class="charts">{charts}</div>{_by_retrieved(metrics.get("decoder", ()))}' if charts else "",
        missing=command("cm3leon train"),
    )


def loss_series(rows: Sequence[Mapping]) -> list[Series]:
    """The losses among logged metrics as lines: a colour for each name, held-out values dashed.

    A loss that only evaluations log is drawn only where training logs none. Of losses by number of retrieved documents
    (`loss_text_retrieved_2`), those with the most documents stand for their name where it is not logged itself.
    """
    lines: dict[tuple[str, str], dict[int, list[tuple[float, float]]]] = {}
    for step, part, name, count, value in _losses(rows):
        lines.setdefault((part, name), {}).setdefault(count, []).append((step, value))
    names = list(dict.fromkeys(name for part, name in lines if part == "train"))
    names = names or list(dict.fromkeys(name for _, name in lines))
    # The parts of a loss say more than their sum.
    names = sorted(names, key=lambda name: name == "loss")[:MOST_LINES]
    return [
        Series(_label(name), counts[-1 if -1 in counts else max(counts)], color, held_out=part == "eval")
        for color, name in enumerate(names, start=1)
        for part in ("train", "eval")
        if (counts := lines.get((part, name)))
    ]


def _losses(rows: Sequence[Mapping]) -> Iterator[tuple[int, str, str, int, float]]:
    """-> step, "train" or "eval", name without prefix and number of retrieved documents, that number or -1, value."""
    for row in rows:
        for key, value in row.items():
            part, _, name = key.partition("/")
            if part in ("train", "eval") and "loss" in name and isinstance(value, (int, float)):
                match = _RETRIEVED.fullmatch(name)
                base, count = (match["name"], int(match["count"])) if match else (name, -1)
                yield row["step"], part, base, count, value


def _label(name: str) -> str:
    """`loss_text`, `text_loss` -> "text"."""
    return " ".join(part for part in re.split(r"[_/]", name) if part != "loss") or "loss"


def _by_retrieved(rows: Sequence[Mapping]) -> str:
    last: dict[int, dict[str, float]] = {}
    for _, part, name, count, value in _losses(rows):
        if part == "eval" and count >= 0:
            last.setdefault(count, {})[name] = value
    names = list(dict.fromkeys(name for values in last.values() for name in values))
    cells = [
        (str(count), *(f"{values[name]:.4f}" if name in values else "" for name in names))
        for count, values in sorted(last.items())
    ]
    head = ("retrieved documents", *("all tokens" if name == "loss" else _label(name) for name in names))
    return table(head, cells, caption="Decoder: held-out loss at the end, nats a token") if cells else ""
