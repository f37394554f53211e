"""A memory bank: a folder with `bank.json` and a folder for each shard. It can be moved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cm3leon_jax.retrieval.memory_bank import changes
from cm3leon_jax.retrieval.memory_bank.config import MemoryBankConfig
from cm3leon_jax.retrieval.memory_bank.index import NOTHING
from cm3leon_jax.retrieval.memory_bank.live import open_shards
from cm3leon_jax.retrieval.memory_bank.manifest import Manifest
from cm3leon_jax.retrieval.memory_bank.merging import merged
from cm3leon_jax.retrieval.memory_bank.residency import ResidentIndexes
from cm3leon_jax.retrieval.memory_bank.shard import MAKE_WITH
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, local_path, new_directory


class MemoryBank:
    """A bank on disk, opened. Whoever changes it is alone; where it is open meanwhile, it is to be opened again."""

    def __init__(self, directory: Path, manifest: Manifest, memory_limit: int | None = None):
        """For `load`, which says what the arguments are."""
        self.directory = local_path(directory)
        self._resident = ResidentIndexes(memory_limit)
        self._open(manifest)

    @classmethod
    def build(
        cls,
        embeddings: np.ndarray,
        ids: np.ndarray,
        directory: Path,
        *,
        encoder_fingerprint: str,
        config: MemoryBankConfig | None = None,
        sample_queries: np.ndarray | None = None,
    ) -> MemoryBank:
        """Builds a bank over `embeddings` [N, D] with document `ids` [N], and writes its folder whole or not at all.

        It is divided evenly into shards of at most `config.documents_per_shard`. The recall of each is measured with
        `sample_queries` [Q, D]; by default a random sample of its embeddings. Raises `UserError` where there is nothing
        to index, or too little for the kind of index.
        """
        config = config or MemoryBankConfig()
        with new_directory(directory) as aside:
            changes.build_shards(embeddings, ids, aside, 0, config, sample_queries)
            changes.assembled(aside, encoder_fingerprint, config).write(aside)
        return cls.load(directory)

    @classmethod
    def assemble(
        cls, directory: Path, *, encoder_fingerprint: str, config: MemoryBankConfig | None = None
    ) -> MemoryBank:
        """Makes a bank of the shard folders in `directory`, named by `shard_folder`, which `build_shard` wrote, maybe
        in many processes. What was removed from an earlier bank there is forgotten.

        `config` is for shards that are added later. `UserError`: there are no shards, they have different numbers of
        dimensions, or a document is in two of them.
        """
        directory = local_path(directory)
        changes.assembled(directory, encoder_fingerprint, config or MemoryBankConfig()).write(directory)
        return cls.load(directory)

    @classmethod
    def load(
        cls, directory: Path, *, encoder_fingerprint: str | None = None, memory_limit: int | None = None
    ) -> MemoryBank:
        """Opens a bank. Shards come into memory when they are first searched, and those not used for longest leave it,
        so that together they take at most `memory_limit` bytes (None: no limit), or are one alone.

        `UserError`: the bank is missing or damaged, or, with `encoder_fingerprint`, of another encoder.
        """
        directory = local_path(directory)
        manifest = Manifest.read(directory)
        if encoder_fingerprint is not None and manifest.encoder_fingerprint != encoder_fingerprint:
            raise UserError(
                f"the memory bank in {directory} was made with another retriever ({manifest.encoder_fingerprint}, "
                f"this one is {encoder_fingerprint}); name that retriever, or `{MAKE_WITH}` again"
            )
        return cls(directory, manifest, memory_limit)

    @property
    def dim(self) -> int:
        return self.manifest.dim

    @property
    def encoder_fingerprint(self) -> str:
        return self.manifest.encoder_fingerprint

    @property
    def count(self) -> int:
        """Documents that are there, without those removed."""
        return sum(live.count for live in self.shards)

    @property
    def recall_at_10(self) -> float:
        """Of the shards, when they were built, weighted by their documents; 1 where there are none."""
        counts = [live.count for live in self.shards]
        recalls = [live.shard.recall_at_10 for live in self.shards]
        return float(np.average(recalls, weights=counts)) if any(counts) else 1.0

    @property
    def ids(self) -> np.ndarray:
        """int32 [count], shard after shard."""
        return np.concatenate([np.zeros(0, np.int32), *(live.ids for live in self.shards)])

    def blocks(self) -> Iterator[np.ndarray]:
        """All embeddings in the order of `ids`, some rows after another: float32 [n, D]."""
        for live in self.shards:
            yield from live.blocks()

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Queries [Q, D] -> ids int32 [Q, k] and inner products float32 [Q, k], best first.

        Among equal scores the smaller id comes first. Where fewer than k are found, the id is -1 and the score -inf.
        Each shard is searched for all queries before the next: where shards are loaded for it, few calls with many
        queries are faster.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise UserError(
                f"queries of shape {queries.shape} for a memory bank of {self.dim} dimensions; use the retriever that "
                "the bank was made with"
            )
        best = np.full((len(queries), k), NOTHING, np.int32), np.full((len(queries), k), -np.inf, np.float32)
        if best[0].size:
            for live in self._resident.resident_first(self.shards):
                best = merged(best, live.search(self._resident.get(live.shard), queries, k))
        return best

    def locate(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids [n] -> the number of each one's shard and its row there, int64 [n]; both -1 for what is not there."""
        numbers, rows = np.full((2, len(ids)), NOTHING, np.int64)
        for number, live in enumerate(self.shards):
            found = live.rows_of(ids)
            here = found != NOTHING
            numbers[here], rows[here] = number, found[here]
        return numbers, rows

    def embeddings_of(self, ids: np.ndarray) -> np.ndarray:
        """Document ids [...] -> their embeddings, float32 [..., D]; zeros where the id is -1. KeyError: an id that the
        bank does not have."""
        flat = np.asarray(ids).reshape(-1)
        numbers, rows = self.locate(flat)
        if ((numbers == NOTHING) & (flat != NOTHING)).any():
            raise KeyError("ids that are not in the memory bank")
        found = np.zeros((len(flat), self.dim), np.float32)
        for number, live in enumerate(self.shards):
            if (here := numbers == number).any():
                found[here] = live.shard.embeddings[rows[here]]
        return found.reshape(*np.shape(ids), self.dim)

    def insert(self, embeddings: np.ndarray, ids: np.ndarray, *, sample_queries: np.ndarray | None = None) -> None:
        """Adds documents as a shard of their own, on disk at once; as for `build`. `UserError`: an id is there already
        (one that was removed may come again), or the number of dimensions is another."""
        self._adopt(changes.inserted(self, embeddings, ids, sample_queries))

    def remove(self, ids: np.ndarray) -> None:
        """Removes documents, on disk at once: they are not found any more, nor counted. `compact` frees their space.
        KeyError: an id that the bank does not have; then nothing is removed."""
        self._adopt(changes.removed(self, ids))

    def compact(self, config: MemoryBankConfig | None = None, max_removed_share: float = 0.2) -> None:
        """Builds shards anew of which more than `max_removed_share` was removed, and joins those that are at most half
        full, to at most `documents_per_shard` together. Others stay as they are. `config`: instead of the bank's."""
        self._adopt(changes.compacted(self, config or self.manifest.config, max_removed_share))

    def _adopt(self, manifest: Manifest) -> None:
        if manifest != self.manifest:
            manifest.write(self.directory)
            manifest.remove_leftovers(self.directory)
            self._open(manifest)

    def _open(self, manifest: Manifest) -> None:
        self.shards = open_shards(self.directory, manifest)
        self.manifest = manifest
        self._resident.keep_only(self.shards)
