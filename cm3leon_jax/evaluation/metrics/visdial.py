"""Visual Dialog: the right answer among the options of a round (sparse), and the relevance of all of them (dense)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cm3leon_jax.evaluation.metrics.ranks import checked_scores, mean_reciprocal_rank, recalls, target_ranks
from cm3leon_jax.evaluation.metrics.score import Score, mean_score
from cm3leon_jax.runtime.errors import UserError


def visdial_sparse(scores: npt.ArrayLike, targets: npt.ArrayLike) -> dict[str, Score]:
    """Scores [rounds, options] (log-likelihoods; higher is better) and the index of the right option [rounds] ->
    "MRR", "R@1", "R@5", "R@10", each 0 … 1, and "mean rank", from 1.

    Das et al., 2017, "Visual Dialog". Ties count against the model. `UserError` for scores that are no matrix of
    numbers and for targets outside of it.
    """
    ranks_N = target_ranks(scores, targets)
    return {"MRR": mean_reciprocal_rank(ranks_N), **recalls(ranks_N, (1, 5, 10)), "mean rank": mean_score(ranks_N)}


def visdial_ndcg(scores: npt.ArrayLike, relevance: npt.ArrayLike) -> Score:
    """Scores and relevance [rounds, options] -> the mean NDCG, 0 … 1, over the rounds with dense annotations.

    As the Visual Dialog challenge has it: with K options of a relevance above 0, the first K of the ranking are
    discounted by log2(rank + 1), over the same sum for the best ranking. Tied options rank in the order given.
    `UserError` where shapes differ, a relevance is below 0, or a round has no relevant option.
    """
    scores_NxO = checked_scores(scores)
    relevance_NxO = checked_scores(relevance, "relevances")
    if relevance_NxO.shape != scores_NxO.shape or (relevance_NxO < 0).any():
        raise UserError(f"relevances {relevance_NxO.shape} have to be 0 or more, one for each score {scores_NxO.shape}")
    relevant_N = (relevance_NxO > 0).sum(axis=1)
    if not relevant_N.all():
        raise UserError(
            f"round {int(np.argmin(relevant_N))} has no relevant option; leave out rounds without annotations"
        )
    order_NxO = np.argsort(-scores_NxO, axis=1, kind="stable")
    found_NxO = np.take_along_axis(relevance_NxO, order_NxO, axis=1)
    best_NxO = -np.sort(-relevance_NxO, axis=1)
    rank_O = np.arange(1, scores_NxO.shape[1] + 1)
    discount_NxO = (rank_O <= relevant_N[:, None]) / np.log2(rank_O + 1)
    return mean_score((found_NxO * discount_NxO).sum(axis=1) / (best_NxO * discount_NxO).sum(axis=1))
