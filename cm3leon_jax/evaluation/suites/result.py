"""What a suite finds: figures with their intervals, what was left out, and a few examples to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cm3leon_jax.evaluation.fid.distances import Distance
from cm3leon_jax.evaluation.metrics.score import Score

NOT_MEASURED = "—"


@dataclasses.dataclass(frozen=True)
class Figure:
    """`low` and `high`: the 95% interval, None where there is none. `percent`: shown times 100."""

    data: str  # what it was measured on, and under which condition
    name: str
    value: float | None
    low: float | None
    high: float | None
    examples: int
    percent: bool = False

    @classmethod
    def of_score(cls, data: str, name: str, score: Score, *, seed: int, percent: bool = False) -> Figure:
        found = score.interval(seed=seed)
        return cls(data, name, found.value, found.low, found.high, found.examples, percent)

    @classmethod
    def of_distance(cls, data: str, distance: Distance) -> Figure:
        return cls(data, distance.name, distance.value, distance.low, distance.high, distance.generated)

    def shown(self) -> tuple[str, str]:
        """The value and its interval as a table has them."""
        if self.value is None:
            return NOT_MEASURED, ""
        if self.low is None or self.high is None:
            return number(self.value, self.percent), ""
        return number(
            self.value, self.percent
        ), f"[{number(self.low, self.percent)}, {number(self.high, self.percent)}]"


def number(value: float, percent: bool = False) -> str:
    """Two decimals of percentages and of what is 1 or more, else four."""
    value *= 100 if percent else 1
    return f"{value:.2f}" if percent or abs(value) >= 1 else f"{value:.4f}"


def figures_of(data: str, scores: Mapping[str, Score], *, seed: int, percent: bool | set[str] = False) -> list[Figure]:
    """Named scores as figures; `percent`: of all, of none, or of those with these names."""
    return [
        Figure.of_score(data, name, score, seed=seed, percent=percent if isinstance(percent, bool) else name in percent)
        for name, score in scores.items()
    ]


@dataclasses.dataclass(frozen=True)
class Count:
    """Of a data set: examples that were scored, and reasons why others were not, with how many."""

    source: str
    scored: int
    left_out: dict[str, int]  # before anything was asked, such as a missing picture
    unanswered: dict[str, int]  # by the model, such as a prompt that is too long


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """An example on the page: pictures, uint8 [H, W, 3], each with a word below, and texts, each with its name."""

    title: str
    pictures: list[tuple[str, np.ndarray]]
    lines: list[tuple[str, str]]


@dataclasses.dataclass(frozen=True, eq=False)
class SuiteResult:
    """`counts` by data set, under the name of its setting."""

    figures: list[Figure]
    counts: dict[str, Count]
    shown: list[Shown] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)  # what a reader of the figures should know

    def to_dict(self) -> dict[str, Any]:
        return {
            "figures": [dataclasses.asdict(figure) for figure in self.figures],
            "counts": {name: dataclasses.asdict(count) for name, count in self.counts.items()},
            "notes": self.notes,
        }
