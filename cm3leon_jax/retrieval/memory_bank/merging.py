"""The best of two lists for each query."""

from __future__ import annotations

import numpy as np

Found = tuple[np.ndarray, np.ndarray]  # ids int32 [Q, k] and scores float32 [Q, k], best first
_QUERIES_AT_ONCE = 16_384  # sorting takes several times the memory of what is sorted


def merged(one: Found, other: Found) -> Found:
    """The k best of both [Q, k], the smaller id first among equal scores."""
    ids, scores = np.empty_like(one[0]), np.empty_like(one[1])
    for start in range(0, len(ids), _QUERIES_AT_ONCE):
        block = slice(start, start + _QUERIES_AT_ONCE)
        all_ids, all_scores = (
            np.concatenate([left[block], right[block]], axis=1) for left, right in zip(one, other, strict=True)
        )
        order = np.lexsort((all_ids, -all_scores), axis=1)[:, : ids.shape[1]]
        ids[block] = np.take_along_axis(all_ids, order, axis=1)
        scores[block] = np.take_along_axis(all_scores, order, axis=1)
    return ids, scores
