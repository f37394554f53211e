"""How well texts find their images among held-out pairs, and images their texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cross_modal_recall(texts_NxD: np.ndarray, images_NxD: np.ndarray, captions: Sequence[str]) -> dict[str, float]:
    """Recall@1 and @5 both ways: the share of queries whose partner is among the first among N candidates.

    Pairs with the same caption count as one another's partners, since nothing tells them apart. Ties with other pairs
    count half, so that an encoder which says the same about everything earns what guessing earns.
    """
    scores = np.asarray(texts_NxD) @ np.asarray(images_NxD).T
    same = np.unique(np.asarray(captions, dtype=object), return_inverse=True)[1]
    rival = same[:, None] != same[None, :]
    recall: dict[str, float] = {}
    for name, rows in (("text_to_image", scores), ("image_to_text", scores.T)):
        partner = np.where(rival, -np.inf, rows).max(axis=1, keepdims=True)
        ahead = ((rows > partner) & rival).sum(axis=1) + ((rows == partner) & rival).sum(axis=1) / 2
        recall |= {f"{name}_recall_at_{k}": float((ahead < k).mean()) for k in (1, 5)}
    return recall
