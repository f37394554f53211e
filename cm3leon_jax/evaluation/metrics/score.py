"""The one shape of a result: what each example contributes, and how the metric follows from that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from cm3leon_jax.evaluation.intervals import BOOTSTRAP_DRAWS, Interval, bootstrap


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """A metric over N examples.

    `examples` [N] are the values that the metric is the mean of. Where it is no mean, they are what it is made of
    instead ([N] or [N, K]): counts, with `of_sums` for the metric of their sums; or observations, with `of_examples`
    for the metric of all of them. The two functions are those of `intervals.bootstrap`.
    """

    examples: np.ndarray
    of_sums: Callable[[np.ndarray], np.ndarray] | None = None
    of_examples: Callable[[np.ndarray], float] | None = None

    @property
    def value(self) -> float | None:
        """The metric over all examples; None where there is none."""
        if not len(self.examples):
            return None
        if self.of_examples is not None:
            return float(self.of_examples(self.examples))
        sums = self.examples.sum(axis=0)
        return float(sums / len(self.examples) if self.of_sums is None else self.of_sums(sums))

    def interval(self, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS) -> Interval:
        """The value with its 95% bootstrap interval over examples; the same seed gives the same interval."""
        return bootstrap(self.examples, of_sums=self.of_sums, of_examples=self.of_examples, seed=seed, draws=draws)


def mean_score(values: object) -> Score:
    """Values of the examples [N] -> their mean as a score."""
    return Score(np.asarray(values, np.float64).reshape(-1))
