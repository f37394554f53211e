"""Ranks of what was looked for, and the metrics of ranks: recall at k, mean reciprocal rank, mean and median rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cm3leon_jax.evaluation.metrics.score import Score, mean_score
from cm3leon_jax.runtime.errors import UserError


def checked_scores(scores: npt.ArrayLike, name: str = "scores") -> np.ndarray:
    """Scores as an array [N, options]; `UserError` where they have another form or one is no number."""
    scores_NxO = np.asarray(scores, np.float64)
    if scores_NxO.ndim != 2 or np.isnan(scores_NxO).any():
        raise UserError(f"{name} have shape {scores_NxO.shape} or hold NaN; give one row of numbers for each example")
    return scores_NxO


def target_ranks(scores: npt.ArrayLike, targets: npt.ArrayLike) -> np.ndarray:
    """Scores [N, options] (higher is better) and the index of the right option [N] -> its rank [N], from 1.

    Options with the same score as the right one rank before it: a model that cannot tell them apart gains nothing.
    """
    scores_NxO, targets_N = checked_scores(scores), np.asarray(targets)
    options = scores_NxO.shape[1]
    if targets_N.shape != scores_NxO.shape[:1] or ((targets_N < 0) | (targets_N >= options)).any():
        raise UserError(
            f"targets have to be {len(scores_NxO)} indices from 0 to {options - 1}, one for each row of scores"
        )
    right_Nx1 = np.take_along_axis(scores_NxO, targets_N.astype(np.int64)[:, None], axis=1)
    return (scores_NxO >= right_Nx1).sum(axis=1)


def recall_at(ranks: npt.ArrayLike, k: int) -> Score:
    """The share of ranks [N] of k or better; a rank of infinity was not found at all."""
    return mean_score(np.asarray(ranks) <= k)


def mean_reciprocal_rank(ranks: npt.ArrayLike) -> Score:
    """The mean of 1 / rank over ranks [N], 0 … 1."""
    return mean_score(1 / np.asarray(ranks, np.float64))


def median_rank(ranks: npt.ArrayLike) -> Score:
    """The median of ranks [N]; lower is better."""
    return Score(np.asarray(ranks, np.float64), of_examples=lambda drawn: float(np.median(drawn)))


def recalls(ranks: npt.ArrayLike, ks: Sequence[int]) -> dict[str, Score]:
    """Ranks [N] -> "R@k" for each k."""
    return {f"R@{k}": recall_at(ranks, k) for k in ks}
