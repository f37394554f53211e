"""A shard of an open memory bank without the documents that were removed from it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np

from cm3leon_jax.retrieval.memory_bank.index import NOTHING, Index
from cm3leon_jax.retrieval.memory_bank.manifest import Manifest
from cm3leon_jax.retrieval.memory_bank.recall import in_blocks
from cm3leon_jax.retrieval.memory_bank.shard import MAKE_WITH, Shard
from cm3leon_jax.runtime.errors import UserError


class LiveShard:
    """`removed`: int32 [R], ascending, ids of the shard. `.count`: documents that are left."""

    def __init__(self, shard: Shard, removed: np.ndarray):
        self.shard = shard
        self.removed = removed
        self.count = shard.count - len(removed)
        self._gone = np.zeros(shard.count, bool)
        self._gone[shard.rows_of(removed)] = True

    @property
    def ids(self) -> np.ndarray:
        """int32 [count], ascending."""
        return self.shard.ids[~self._gone]

    def blocks(self) -> Iterator[np.ndarray]:
        """The embeddings in the order of `ids`, some rows after another: float32 [n, D]."""
        for rows, gone in zip(in_blocks(self.shard.embeddings), in_blocks(self._gone), strict=True):
            yield rows[~gone]

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Ids [n] -> their rows in the shard, int64 [n]; -1 for those that are not there, or not any more."""
        rows = self.shard.rows_of(ids)
        return np.where(self._gone[rows] & (rows != NOTHING), NOTHING, rows)

    def search(self, index: Index, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Queries [Q, D] -> ids int32 [Q, k] and scores float32 [Q, k], best first; -1 and -inf where fewer are found.

        Queries that find too many removed documents are searched again, deeper: at most by the number removed, so that
        k are found wherever the index has them.
        """
        ids = np.full((len(queries), k), NOTHING, np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        deepest = min(k + len(self.removed), self.shard.count)
        depth, pending = min(2 * k, deepest), np.arange(len(queries))
        while len(pending):
            rows, found = index.search(queries[pending], depth, self.shard.config)
            there = rows != NOTHING
            alive = there & ~self._gone[rows]
            first = np.argsort(~alive, axis=1, kind="stable")[:, :k]  # those that are left, in their order
            rows, found, left = (np.take_along_axis(each, first, axis=1) for each in (rows, found, alive))
            width = first.shape[1]
            ids[pending, :width] = np.where(left, self.shard.ids[rows], NOTHING)
            scores[pending, :width] = np.where(left, found, -np.inf)
            if depth == deepest:
                break
            pending = pending[(alive.sum(axis=1) < k) & there.all(axis=1)]
            depth = min(2 * depth, deepest)
        return ids, scores


def open_shards(bank: pathlib.Path, manifest: Manifest) -> tuple[LiveShard, ...]:
    """Those that a bank consists of. `UserError`: one is missing, damaged or not the bank's."""
    shards = []
    for entry in manifest.shards:
        shard = Shard(bank / entry.folder)
        if (shard.count, shard.dim) != (entry.count, manifest.dim):
            raise UserError(f"{shard.directory} does not fit the memory bank around it; `{MAKE_WITH}` again")
        shards.append(LiveShard(shard, entry.removed_ids(bank)))
    return tuple(shards)
