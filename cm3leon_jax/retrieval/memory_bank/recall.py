"""How much of what is nearest an index finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

_ROWS = 16_384  # compared at once


class Searched(Protocol):
    """What of a `MemoryBank` is used."""

    @property
    def count(self) -> int: ...

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]: ...

    def blocks(self) -> Iterator[np.ndarray]: ...


def measure_recall(bank: Searched, queries: np.ndarray, k: int) -> float:
    """Share of the true k nearest that the bank finds, over `queries` [Q, D] (exact search by matrix products).

    Counted by score: a document that scores as high as the k-th best is as right as that one, so that documents with
    equal embeddings do not count against the index. Where there are fewer than k documents, all of them are looked for.
    """
    k = min(k, bank.count)
    if not k:
        return 1.0
    return share_found(bank.search(queries, k)[1], worst_of_best(bank.blocks(), queries, k))


def worst_of_best(blocks: Iterable[np.ndarray], queries: np.ndarray, k: int) -> np.ndarray:
    """The k-th largest inner product of each of `queries` [Q, D] with the vectors of all `blocks` [n, D]: [Q]."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    for block in blocks:
        best = np.concatenate([best, queries @ block.T], axis=1)
        best = -np.partition(-best, k - 1, axis=1)[:, :k]
    return best.min(axis=1)


def share_found(scores: np.ndarray, worst: np.ndarray) -> float:
    """Of the `scores` [Q, k] that a search gave: how many are as good as `worst` [Q], the true k-th."""
    return float(found_of_each(scores, worst).mean())


def found_of_each(scores: np.ndarray, worst: np.ndarray) -> np.ndarray:
    """The same for each query, [Q]."""
    return (scores >= worst[:, None] - 1e-5).mean(axis=1)


def in_blocks(embeddings: np.ndarray) -> Iterator[np.ndarray]:
    """Vectors [N, D], a block of rows after another: what lies on disk is not read at once."""
    for start in range(0, len(embeddings), _ROWS):
        yield embeddings[start : start + _ROWS]
