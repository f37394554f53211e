"""Retrieval between images and texts, in both directions."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import numpy as np
import numpy.typing as npt

from cm3leon_jax.evaluation.metrics.checks import check_lengths
from cm3leon_jax.evaluation.metrics.ranks import checked_scores, mean_reciprocal_rank, median_rank, recalls
from cm3leon_jax.evaluation.metrics.score import Score
from cm3leon_jax.runtime.errors import UserError

KS = (1, 5, 10)


def retrieval(
    similarity: npt.ArrayLike, relevant: npt.ArrayLike | None = None, *, ks: Sequence[int] = KS
) -> dict[str, dict[str, Score]]:
    """Similarities [images, texts] -> {"image to text": …, "text to image": …}, each as `rank_metrics` has it.

    `relevant` [images, texts] says which texts belong to which image (COCO has five for each); without it, the n-th
    text belongs to the n-th image. `UserError` where shapes differ, a similarity is no number, or an image or text
    has nothing that belongs to it.
    """
    similarity_IxT = checked_scores(similarity, "similarities")
    images, texts = similarity_IxT.shape
    if relevant is None and images != texts:
        raise UserError(f"{images} images and {texts} texts are no pairs; say with `relevant` which belong together")
    relevant_IxT = np.eye(images, dtype=bool) if relevant is None else np.asarray(relevant, bool)
    return {
        "image to text": rank_metrics(similarity_ranks(similarity_IxT, relevant_IxT), ks=ks),
        "text to image": rank_metrics(similarity_ranks(similarity_IxT.T, relevant_IxT.T), ks=ks),
    }


def rank_metrics(ranks: npt.ArrayLike, *, ks: Sequence[int] = KS) -> dict[str, Score]:
    """Ranks [queries] from 1 (infinity: not found) -> "R@k" for each k, "MRR" (0 … 1) and "median rank"."""
    return {**recalls(ranks, ks), "MRR": mean_reciprocal_rank(ranks), "median rank": median_rank(ranks)}


def similarity_ranks(similarity: npt.ArrayLike, relevant: npt.ArrayLike) -> np.ndarray:
    """Similarities [queries, items] and what is relevant [queries, items] -> the rank of the first relevant item.

    Items that are as similar as the relevant one rank before it, unless they are relevant too.
    """
    similarity_QxI, relevant_QxI = checked_scores(similarity, "similarities"), np.asarray(relevant, bool)
    if relevant_QxI.shape != similarity_QxI.shape:
        raise UserError(f"relevant {relevant_QxI.shape} needs the shape of the similarities, {similarity_QxI.shape}")
    if not relevant_QxI.any(axis=1).all():
        raise UserError(f"query {int(np.argmin(relevant_QxI.any(axis=1)))} has no relevant item; leave it out")
    best_Qx1 = np.where(relevant_QxI, similarity_QxI, -np.inf).max(axis=1, keepdims=True)
    return 1 + ((similarity_QxI >= best_Qx1) & ~relevant_QxI).sum(axis=1)


def list_ranks(ranked: Sequence[Sequence[Hashable]], relevant: Sequence[Collection[Hashable]]) -> np.ndarray:
    """What was found for each query, best first, and what is relevant to it -> the rank of the first relevant one.

    A rank is infinite where nothing relevant was found. `UserError` where one query has no list of the other kind.
    """
    check_lengths(ranked=ranked, relevant=relevant)
    return np.array(
        [
            next((rank for rank, item in enumerate(found, 1) if item in wanted), np.inf)
            for found, wanted in zip(ranked, relevant, strict=True)
        ],
        np.float64,
    )
