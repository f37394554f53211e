"""One shard of a memory bank, in a folder of its own: `shard.json`, `ids.npy` and `index/` (ScaNN's files).

The folder is written whole or not at all, and can be moved. Its rows are in the order of the ids, so that among equal
scores exact search finds the smaller id first.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from cm3leon_jax.retrieval.memory_bank.config import MemoryBankConfig
from cm3leon_jax.retrieval.memory_bank.index import EMBEDDINGS_FILE, NOTHING, Index
from cm3leon_jax.retrieval.memory_bank.recall import in_blocks, share_found, worst_of_best
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, new_directory, read_json, write_json

MAKE_WITH = "cm3leon prepare"
_SHARD_FILE = "shard.json"
_IDS_FILE = "ids.npy"
_INDEX_FOLDER = "index"


class Shard:
    """A shard on disk, opened; its index is not in memory. `.count` (N), `.dim` (D), `.kind`, `.recall_at_10`;
    `.config`, resolved: what is searched, which may be changed here."""

    def __init__(self, directory: Path):
        """`UserError`: it is missing or damaged."""
        self.directory = pathlib.Path(directory)
        facts = read_json(self.directory / _SHARD_FILE, what="shard of the memory bank", make_with=MAKE_WITH)
        self.count: int = facts["count"]
        self.dim: int = facts["dim"]
        self.recall_at_10: float = facts["recall_at_10"]
        self.config = MemoryBankConfig(**facts["index"])
        if self.ids.shape != (self.count,) or self.embeddings.shape != (self.count, self.dim):
            raise UserError(f"the files of the memory bank in {directory} do not fit together; `{MAKE_WITH}` again")

    @property
    def ids(self) -> np.ndarray:
        """int32 [N], ascending: mapped from disk, for as long as the caller holds them (a map is an open file)."""
        return self._mapped(self.directory / _IDS_FILE)

    @property
    def embeddings(self) -> np.ndarray:
        """float32 [N, D], mapped likewise."""
        return self._mapped(self._index / EMBEDDINGS_FILE)

    @property
    def kind(self) -> str:
        return self.config.kind

    @property
    def nbytes(self) -> int:
        """What the index takes in memory: ScaNN reads its files as they are."""
        return sum(path.stat().st_size for path in self._index.iterdir())

    def load_index(self) -> Index:
        """Reads the index into memory. `UserError`: its files are missing or damaged."""
        try:
            return Index.load(self._index, self.count)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._unreadable(error) from None

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Ids [n] -> their rows, int64 [n]; -1 for those that are not in this shard."""
        rows, own = np.full(len(ids), NOTHING, np.int64), self.ids
        near = np.flatnonzero((ids >= own[0]) & (ids <= own[-1]))
        wanted = ids[near].astype(np.int32)  # of another type, every search would copy all ids of the shard
        places = np.searchsorted(own, wanted)
        here = own[places] == wanted
        rows[near[here]] = places[here]
        return rows

    @property
    def _index(self) -> pathlib.Path:
        return self.directory / _INDEX_FOLDER

    def _mapped(self, path: pathlib.Path) -> np.ndarray:
        try:
            return np.asarray(np.load(path, mmap_mode="r"))
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> UserError:
        reason = " ".join(str(error).split())
        return UserError(f"the memory bank in {self.directory} cannot be read ({reason}); `{MAKE_WITH}` again")


def build_shard(
    embeddings: np.ndarray,
    ids: np.ndarray,
    directory: Path,
    *,
    config: MemoryBankConfig | None = None,
    sample_queries: np.ndarray | None = None,
) -> Shard:
    """Builds the index over `embeddings` [N, D] with document `ids` [N], measures its recall and writes the folder.

    Where recall is below `config.recall_goal`, more is searched, until it is reached. `sample_queries` [Q, D] are what
    it is measured with; by default a random sample of the embeddings. Raises `UserError` where there is nothing to
    index, or too little for the kind of index.
    """
    embeddings, ids = checked(embeddings, ids)
    if (np.diff(ids) < 0).any():
        order = np.argsort(ids)
        embeddings, ids = embeddings[order], ids[order]
    config = (config or MemoryBankConfig()).resolved(len(ids))
    index = Index.build(embeddings, config)
    config, recall = _thorough_enough(index, config, embeddings, sample_queries)
    facts = {"count": len(ids), "dim": embeddings.shape[1], "recall_at_10": recall}
    with new_directory(directory) as aside:
        (aside / _INDEX_FOLDER).mkdir()
        index.save(aside / _INDEX_FOLDER)
        np.save(aside / _IDS_FILE, ids)
        write_json(aside / _SHARD_FILE, facts | {"index": dataclasses.asdict(config)})
    return Shard(directory)


def checked(embeddings: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [N, D] as float32 and ids [N] as int32. `UserError`: they do not fit, or are not usable."""
    embeddings, ids = np.ascontiguousarray(embeddings, np.float32), np.asarray(ids)
    if embeddings.ndim != 2 or len(embeddings) != len(ids):
        raise UserError(
            f"embeddings of shape {embeddings.shape} for {len(ids)} documents; they must be one row for each"
        )
    if not len(ids):
        raise UserError("a memory bank needs documents, and there are none; check the source")
    if len(np.unique(ids)) != len(ids) or ids.min() < 0 or ids.max() > np.iinfo(np.int32).max:
        raise UserError("the ids of a memory bank must be different, from 0 to 2^31 - 1")
    if not np.isfinite(embeddings).all():
        raise UserError("embeddings that are not finite numbers; the retriever's training has diverged, train it again")
    return embeddings, ids.astype(np.int32)


def _thorough_enough(
    index: Index, config: MemoryBankConfig, embeddings: np.ndarray, queries: np.ndarray | None
) -> tuple[MemoryBankConfig, float]:
    """The configuration with what is searched doubled until the index finds what it should, and its recall at 10."""
    if queries is None or not len(queries):
        rows = np.random.default_rng(0).permutation(index.count)[: config.recall_queries]
        queries = embeddings[np.sort(rows)]
    queries = np.ascontiguousarray(queries[: config.recall_queries], np.float32)
    k = min(10, index.count)
    worst = worst_of_best(in_blocks(embeddings), queries, k)
    while (recall := share_found(index.search(queries, k, config)[1], worst)) < config.recall_goal:
        # K-means differs from machine to machine and can leave clusters empty: what was measured decides.
        thorough = config.more_thorough(index.count)
        if config.kind == "brute_force" or thorough == config:
            break
        config = thorough
    return config, recall
