"""The best of several samples a prompt, by CLIP (CM3Leon §3.1: the headline figures take one of eight)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Encoder(Protocol):
    """The retriever's two encoders: rows of unit norm."""

    def embed_texts(self, texts: Sequence[str], /) -> np.ndarray: ...

    def embed_images(self, images: np.ndarray, /) -> np.ndarray: ...


def clip_scores(encoder: Encoder, texts: Sequence[str], pictures: np.ndarray) -> np.ndarray:
    """N texts and n pictures of each, uint8 [N, n, R, R, 3] -> cosine of each picture with its text, float32 [N, n]."""
    count, n = pictures.shape[:2]
    embedded = encoder.embed_images(pictures.reshape(count * n, *pictures.shape[2:])).reshape(count, n, -1)
    return np.einsum("nsd,nd->ns", embedded, encoder.embed_texts(texts))


def choose_best(candidates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Candidates [N, n, …] and their scores [N, n] -> the best of each row, [N, …]. The first of equals wins."""
    return candidates[np.arange(len(candidates)), np.asarray(scores).argmax(axis=1)]
