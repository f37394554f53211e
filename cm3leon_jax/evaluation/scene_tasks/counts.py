"""Hits and totals of each example, under the names of the scores that they belong to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cm3leon_jax.evaluation.intervals import share


class Counts(NamedTuple):
    """Both int64 [N]. An example that a score has nothing to say of has the total 0."""

    hits: np.ndarray
    totals: np.ndarray


Scores = dict[str, Counts]


class Tally:
    """Counts while examples are gone through."""

    def __init__(self, examples: int):
        self._examples = examples
        self.scores: Scores = {}

    def add(self, name: str, example: int, hits: int | bool, total: int = 1) -> None:
        """Counts `hits` of `total` more for a score of an example."""
        if name not in self.scores:
            self.scores[name] = Counts(np.zeros(self._examples, np.int64), np.zeros(self._examples, np.int64))
        self.scores[name].hits[example] += hits
        self.scores[name].totals[example] += total


def shares(scores: Scores, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Each score as the dict of an `intervals.Share`, with its bootstrap interval over examples."""
    return {name: share(counts.hits, counts.totals, seed=seed).to_dict() for name, counts in scores.items()}
