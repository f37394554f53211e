"""Line charts as inline SVG. Colours come from the page's CSS, so one drawing serves light and dark."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 340, 210
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 10, 36
MOST_POINTS = 300


@dataclasses.dataclass(frozen=True)
class Series:
    """A named line. Held-out lines are dashed and show their points; they share the colour of the training line."""

    label: str
    points: Sequence[tuple[float, float]]  # (step, value)
    color: int = 1  # 1…4, the page's chart colours
    held_out: bool = False


def line_chart(title: str, series: Sequence[Series], *, note: str = "") -> str:
    """-> a <figure> with a legend that names each line's last value. Series without finite points are left out."""
    series = [dataclasses.replace(line, points=_finite(line.points)) for line in series]
    series = [line for line in series if line.points]
    if not series:
        return ""
    steps = [step for line in series for step, _ in line.points]
    values = [value for line in series for _, value in line.points]
    x_ticks, y_ticks = nice_ticks(min(0, *steps), max(steps), 4), nice_ticks(*_value_range(values), 4)
    x_low, x_high = min(x_ticks[0], *steps), max(*steps, x_ticks[0] + 1)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def at(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (step - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (min(max(value, y_low), y_high) - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return x, y

    parts = [axes(x_ticks, y_ticks, x_high, at, "step")]
    for line in series:
        points = [at(*point) for point in _thinned(line.points)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="line c{line.color}{" held-out" if line.held_out else ""}" d="{path}"/>')
        if line.held_out or len(points) == 1:
            parts += [f'<circle class="dot c{line.color}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    described = "; ".join(
        f"{line.label}{', held out' if line.held_out else ''}: {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}"
        for line in series
    )
    caption = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return (
        f'<figure class="chart"><figcaption>{html.escape(title)}</figcaption>{_legend(series)}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(f"{title}. {described}")}">'
        f"{''.join(parts)}</svg>{caption}</figure>"
    )


def _legend(series: Sequence[Series]) -> str:
    """One entry a colour, with the last value of its training line and of its held-out line."""
    entries = []
    for color in dict.fromkeys(line.color for line in series):
        lines = [line for line in series if line.color == color]
        values = ", ".join(
            f"{'held out ' if line.held_out else ''}<b>{line.points[-1][1]:.3g}</b>"
            for line in sorted(lines, key=lambda line: line.held_out)
        )
        entries.append(f'<li><span class="swatch c{color}"></span>{html.escape(lines[0].label)} {values}</li>')
    return f'<ul class="legend">{"".join(entries)}</ul>'


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers that enclose [low, high], about `about` + 1 of them."""
    span = max(high - low, abs(high) * 1e-6, 1e-12)
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if raw <= factor * power * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def axes(
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_high: float,
    at: Callable[[float, float], tuple[float, float]],
    x_label: str,
) -> str:
    """Grid lines, ticks (of x, those up to `x_high`) and the name of the horizontal axis; `at` places (x, y)."""
    parts = []
    for tick in y_ticks:
        _, y = at(0, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    for tick in x_ticks:
        if tick > x_high:
            continue
        x, _ = at(tick, y_ticks[0])
        anchor = "end" if x > WIDTH - RIGHT - 16 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="{anchor}">{_short(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 2}" text-anchor="middle">{html.escape(x_label)}</text>')
    return "".join(parts)


def _value_range(values: Sequence[float]) -> tuple[float, float]:
    """All values but the first spike: the top is the 98th percentile, so that the end of a curve stays readable."""
    ordered = sorted(values)
    return ordered[0], ordered[min(len(ordered) - 1, math.ceil(0.98 * (len(ordered) - 1)))]


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(step, value) for step, value in points if math.isfinite(step) and math.isfinite(value)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `MOST_POINTS` points, each the mean of its neighbours."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _short(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1000:g}k" if abs(value) >= 2000 else f"{value:.4g}"
