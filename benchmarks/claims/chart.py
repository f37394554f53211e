"""Charts as SVG files that need no page around them: lines with intervals, and a legend."""

from __future__ import annotations

import html
import math

from benchmarks.claims.section import Chart
from cm3leon_jax.pages.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axes, nice_ticks

COLORS = ("#2457b3", "#bb4f0a", "#0d7a72", "#8636a8")
_HEAD = 42  # pixels above the lines, for the title and the legend
_SPREAD = 3.0  # pixels between the points of two lines at the same x
_STYLE = (
    "text{font:12px sans-serif;fill:#4a4f57}.title{font-weight:600;fill:#1c1f24}.grid{stroke:#e7e5df}"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}.interval{stroke-width:1.2}"
)


def svg(chart: Chart) -> str:
    """Shares in percent, from 0 to a round number above the highest interval."""
    ticks = sorted({x for line in chart.lines for x in line.points})
    highest = max(100 * value.high for line in chart.lines for value in line.points.values())
    y_ticks = nice_ticks(0.0, max(min(highest, 100.0), 1.0), 4)

    def along(x: float) -> float:
        return math.log2(x) if chart.logarithmic else x

    low, high = along(ticks[0]), along(ticks[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        place = (along(x) - low) / ((high - low) or 1) if x in ticks else 0.0
        across = LEFT + 8 + place * (WIDTH - LEFT - RIGHT - 16)
        return across, HEIGHT - BOTTOM - y / y_ticks[-1] * (HEIGHT - TOP - BOTTOM)

    parts = [axes(ticks, y_ticks, ticks[-1], at, chart.x_label)]
    for number, line in enumerate(chart.lines):
        color, shift = COLORS[number % len(COLORS)], _SPREAD * (number - (len(chart.lines) - 1) / 2)
        points = []
        for x, value in sorted(line.points.items()):
            across, y = at(x, 100 * value.value)
            (_, top), (_, bottom) = at(x, 100 * value.high), at(x, 100 * value.low)
            across += shift
            points.append(f"{across:.1f} {y:.1f}")
            parts.append(
                f'<path class="interval" stroke="{color}" d="M{across:.1f} {top:.1f}V{bottom:.1f}"/>'
                f'<circle cx="{across:.1f}" cy="{y:.1f}" r="3" fill="{color}"><title>{value}</title></circle>'
            )
        parts.append(f'<path class="line" stroke="{color}" d="M{"L".join(points)}"/>')
    legend = "".join(
        f'<circle cx="{LEFT + 4}" cy="{-12 - 14 * place}" r="4" fill="{COLORS[number % len(COLORS)]}"/>'
        f'<text x="{LEFT + 14}" y="{-8 - 14 * place}">{html.escape(line.label)}</text>'
        for place, (number, line) in enumerate(reversed(list(enumerate(chart.lines))))
    )
    head = _HEAD + 14 * (len(chart.lines) - 1)
    title = f'<text class="title" x="{LEFT}" y="{18 - head}">{html.escape(chart.title)}, %</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {-head} {WIDTH} {HEIGHT + head}" width="{WIDTH + 80}">'
        f'<style>{_STYLE}</style><rect y="{-head}" width="{WIDTH}" height="{HEIGHT + head}" fill="#ffffff"/>'
        f"{title}{legend}{''.join(parts)}</svg>\n"
    )
