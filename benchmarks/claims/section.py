"""What a claim comes to: words, a table, lines of a chart, and the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.claims.bootstrap import Estimate

HOLDS, PARTLY, NOT = "holds here", "holds in part", "does not hold here"


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart: x -> a share with its interval."""

    label: str
    points: Mapping[float, Estimate]


@dataclasses.dataclass(frozen=True)
class Chart:
    name: str  # of its file
    title: str
    x_label: str
    lines: Sequence[Line]
    logarithmic: bool = False  # the horizontal axis


@dataclasses.dataclass(frozen=True)
class Section:
    name: str
    title: str
    claim: str  # what the paper says
    verdict: str
    tests: Mapping[str, Estimate]  # differences that the verdict follows from; each is to be above zero
    how: str  # it was tested, and what else there is to say
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    charts: Sequence[Chart]

    def to_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "tests": {name: dataclasses.asdict(value) for name, value in self.tests.items()},
            "charts": {
                chart.name: {
                    line.label: {str(x): dataclasses.asdict(value) for x, value in line.points.items()}
                    for line in chart.lines
                }
                for chart in self.charts
            },
        }


def verdict(tests: Mapping[str, Estimate]) -> str:
    """All differences above zero with their whole interval, some of them, or none."""
    above = [value.low > 0 for value in tests.values()]
    return HOLDS if all(above) else PARTLY if any(above) else NOT
