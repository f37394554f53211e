"""Histograms as inline SVG, in the style of the line charts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.pages.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axes, nice_ticks
from cm3leon_jax.pages.pieces import text

MOST_COLUMNS = 40
_FEWEST_COLUMNS = 8  # of whole numbers: a single one is no chart in one block


def histogram(title: str, values: Sequence[float] | np.ndarray, *, x_label: str, counted: str, note: str = "") -> str:
    """-> a <figure>, or nothing without values. The bars stand for how many of the values, which are `counted` (their
    name in the plural), lie in each of at most `MOST_COLUMNS` ranges; whole numbers have ranges of whole numbers."""
    values = np.asarray(values, np.float64)
    if not values.size:
        return ""
    edges = column_edges(values)
    counts = np.histogram(values, edges)[0]
    whole = (values == np.round(values)).all()
    shift = 0.5 if whole else 0.0  # a whole number stands in the middle of its column
    x_ticks = [tick for tick in nice_ticks(edges[0], edges[-1], 5) if edges[0] <= tick <= edges[-1]]
    x_ticks = [tick for tick in x_ticks if not whole or tick == round(tick)]
    y_ticks = nice_ticks(0, counts.max(), 4)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - edges[0]) / (edges[-1] - edges[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / y_ticks[-1] * (HEIGHT - TOP - BOTTOM)

    bars = "".join(
        _bar(at(low, count), at(high, 0), f"{_range(low + shift, high - shift, whole)} {x_label}: {count:,}")
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    )
    figures = (
        f"{len(values):,} {counted}: smallest {values.min():.4g}, median {np.median(values):.4g}, "
        f"mean {values.mean():.4g}, largest {values.max():.4g}"
    )
    below = f"{text(figures)}.{f' {text(note)}' if note else ''}"
    return (
        f'<figure class="chart"><figcaption>{text(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(f"{title}. {figures}")}">'
        f'{axes(x_ticks, y_ticks, edges[-1], at, x_label)}{bars}</svg><p class="note">{below}</p></figure>'
    )


def column_edges(values: np.ndarray) -> np.ndarray:
    """The edges of the columns, float [columns + 1], the last one inclusive."""
    low, high = values.min(), values.max()
    if (values != np.round(values)).any():
        high = max(high, low + 1e-6 * max(1.0, abs(low)))  # equal numbers
        return np.linspace(low, high, MOST_COLUMNS + 1)
    numbers = high - low + 1
    width = math.ceil(numbers / MOST_COLUMNS)
    columns = max(_FEWEST_COLUMNS, math.ceil(numbers / width))
    spare = columns - math.ceil(numbers / width)
    return max(low - spare // 2, min(low, 0.0)) - 0.5 + width * np.arange(columns + 1)


def _bar(top: tuple[float, float], bottom: tuple[float, float], title: str) -> str:
    (left, high), (right, low) = top, bottom
    width, height = max(right - left - 1, 1), max(low - high, 1)
    return (
        f'<rect class="column" x="{left + 0.5:.1f}" y="{low - height:.1f}" width="{width:.1f}" height="{height:.1f}">'
        f"<title>{text(title)}</title></rect>"
    )


def _range(low: float, high: float, whole: bool) -> str:
    return f"{low:.4g}" if whole and low == high else f"{low:.4g} to {high:.4g}"
