"""The memory bank: embeddings of documents on disk, searched by ScaNN for the largest inner product (CM3Leon §2.1).

A folder holds `bank.json`, `ids.npy` and `index/` (ScaNN's own files, the embeddings among them); it can be moved, and
is loaded without building anything. ScaNN brings TensorFlow along, so it is imported where it is first needed.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, new_directory, read_json, write_json

FORMAT = 1
BANK_FILE = "bank.json"
IDS_FILE = "ids.npy"
INDEX_FOLDER = "index"
EMBEDDINGS_FILE = f"{INDEX_FOLDER}/dataset.npy"  # written by ScaNN, float32 [N, D] in the order of the ids
MAKE_WITH = "cm3leon prepare"
KINDS = ("brute_force", "hashing", "tree")
NOTHING = -1  # the id where there are fewer documents than were asked for


@dataclasses.dataclass(frozen=True)
class MemoryBankConfig:
    """Which index, and how thorough it is. More leaves searched and more rescored: better recall, slower."""

    kind: str = "auto"  # or "brute_force", "hashing" (asymmetric hashing), "tree" (a tree above the hashes)
    brute_force_below: int = 20_000  # vectors; "auto" compares with all of them below this
    hashing_below: int = 100_000  # vectors; "auto" hashes below this and adds a tree from here on
    num_leaves: int = 0  # of the tree; 0: the square root of the number of vectors
    leaves_searched: int = 0  # for each query; 0: a tenth of the leaves, 16 at least
    dimensions_per_block: int = 2  # dimensions that share a 4-bit code
    anisotropic_threshold: float = 0.2  # how much more an error along a vector counts (Guo et al. 2020); ScaNN's advice
    rescored: int = 200  # candidates that are scored again exactly; four for each one asked for, if that is more
    recall_goal: float = 0.99  # of the 10 nearest; leaves searched and rescored are doubled until it is reached
    training_sample: int = 100_000  # vectors that hashes and tree are trained on
    recall_queries: int = 1_000  # vectors that recall is measured with

    def __post_init__(self) -> None:
        if self.kind not in ("auto", *KINDS):
            raise UserError(f"memory bank of kind {self.kind!r}; use one of auto, {', '.join(KINDS)}")

    def resolved(self, count: int) -> MemoryBankConfig:
        """The same with what depends on the number of vectors filled in."""
        kind = self.kind
        if kind == "auto":
            by_size = (count >= self.brute_force_below) + (count >= max(self.hashing_below, self.brute_force_below))
            kind = KINDS[by_size]
        leaves = self.num_leaves or max(1, math.isqrt(count))
        searched = min(leaves, self.leaves_searched or max(16, -(-leaves // 10)))
        return dataclasses.replace(self, kind=kind, num_leaves=leaves, leaves_searched=searched)

    def more_thorough(self, count: int) -> MemoryBankConfig:
        """Twice the leaves and candidates, up to all of them: there a resolved configuration equals itself."""
        return dataclasses.replace(
            self,
            leaves_searched=min(self.num_leaves, 2 * self.leaves_searched),
            rescored=min(count, 2 * self.rescored),
        )


class MemoryBank:
    """A bank on disk, opened. `.count`, `.dim`, `.kind`, `.recall_at_10`, `.encoder_fingerprint`; `.ids` int32 [N];
    `.embeddings` float32 [N, D], read from disk as needed."""

    def __init__(self, directory: pathlib.Path, facts: dict, ids: np.ndarray, embeddings: np.ndarray, searcher: Any):
        self.directory = directory
        self.count: int = facts["count"]
        self.dim: int = facts["dim"]
        self.encoder_fingerprint: str = facts["encoder_fingerprint"]
        self.recall_at_10: float = facts["recall_at_10"]
        self.config = MemoryBankConfig(**facts["index"])
        self.ids = ids
        self.embeddings = embeddings
        self._searcher = searcher
        self._order = np.argsort(ids)

    @property
    def kind(self) -> str:
        return self.config.kind

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
        """Builds the index over `embeddings` [N, D] with document `ids` [N], measures its recall and writes the folder.

        `sample_queries` [Q, D] are what recall is measured with; by default a random sample of the embeddings. Raises
        `UserError` where there is nothing to index, or too little for the kind of index.
        """
        embeddings, ids = np.ascontiguousarray(embeddings, np.float32), np.asarray(ids)
        _check(embeddings, ids)
        config = (config or MemoryBankConfig()).resolved(len(ids))
        searcher = _build_index(embeddings, config)
        if sample_queries is None:
            rows = np.random.default_rng(0).permutation(len(ids))[: config.recall_queries]
            sample_queries = embeddings[np.sort(rows)]
        facts = {
            "format": FORMAT,
            "encoder_fingerprint": encoder_fingerprint,
            "count": len(ids),
            "dim": embeddings.shape[1],
            "recall_at_10": 1.0,
            "index": dataclasses.asdict(config),
        }
        built = cls(pathlib.Path(directory), facts, ids.astype(np.int32), embeddings, searcher)
        queries = sample_queries[: config.recall_queries]
        while (recall := measure_recall(built, queries, k=10)) < config.recall_goal and config.kind != "brute_force":
            # K-means differs from machine to machine and can leave clusters empty: what was measured decides.
            thorough = built.config.more_thorough(len(ids))
            if thorough == built.config:
                break
            built.config = thorough
        facts |= {"recall_at_10": recall, "index": dataclasses.asdict(built.config)}
        with new_directory(directory) as aside:
            (aside / INDEX_FOLDER).mkdir()
            searcher.serialize(str(aside / INDEX_FOLDER), relative_path=True)
            np.save(aside / IDS_FILE, ids.astype(np.int32))
            write_json(aside / BANK_FILE, facts)
        return cls.load(directory)

    @classmethod
    def load(cls, directory: Path, *, encoder_fingerprint: str | None = None) -> MemoryBank:
        """Opens a bank. With `encoder_fingerprint`, a bank of another encoder is a `UserError`."""
        directory = pathlib.Path(directory)
        facts = read_json(directory / BANK_FILE, what="memory bank", make_with=MAKE_WITH)
        if facts.get("format") != FORMAT:
            raise UserError(f"the memory bank in {directory} is of another version; `{MAKE_WITH}` again")
        if encoder_fingerprint is not None and facts["encoder_fingerprint"] != encoder_fingerprint:
            raise UserError(
                f"the memory bank in {directory} was made with another retriever ({facts['encoder_fingerprint']}, "
                f"this one is {encoder_fingerprint}); name that retriever, or `{MAKE_WITH}` again"
            )
        try:
            ids = np.load(directory / IDS_FILE)
            embeddings = np.load(directory / EMBEDDINGS_FILE, mmap_mode="r")
            searcher = _scann().load_searcher(str(directory / INDEX_FOLDER))
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"the memory bank in {directory} cannot be read ({reason}); `{MAKE_WITH}` again") from None
        if ids.shape != (facts["count"],) or embeddings.shape != (facts["count"], facts["dim"]):
            raise UserError(f"the files of the memory bank in {directory} do not fit together; `{MAKE_WITH}` again")
        return cls(directory, facts, ids, embeddings, searcher)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Queries [Q, D] -> ids int32 [Q, k] and inner products float32 [Q, k], best first.

        Where fewer than k are found, the id is -1 and the score -inf.
        """
        rows, scores = self._search_rows(queries, k)
        return np.where(rows >= 0, self.ids[rows], NOTHING).astype(np.int32), scores

    def embeddings_of(self, ids: np.ndarray) -> np.ndarray:
        """Document ids [...] -> their embeddings, float32 [..., D]; zeros where the id is -1. KeyError: an id that the
        bank does not have."""
        flat = np.asarray(ids).reshape(-1)
        places = np.minimum(np.searchsorted(self.ids, flat, sorter=self._order), self.count - 1)
        rows = self._order[places]
        present = flat != NOTHING
        if (self.ids[rows] != flat)[present].any():
            raise KeyError("ids that are not in the memory bank")
        found = np.zeros((len(flat), self.dim), np.float32)
        found[present] = self.embeddings[rows[present]]
        return found.reshape(*np.shape(ids), self.dim)

    def _search_rows(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        queries = np.ascontiguousarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise UserError(
                f"queries of shape {queries.shape} for a memory bank of {self.dim} dimensions; use the retriever that "
                "the bank was made with"
            )
        rows = np.full((len(queries), k), NOTHING, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        wanted = min(k, self.count)
        if not len(queries) or not wanted:
            return rows, scores
        # ScaNN pads with row 0 and a score that is not a number, also where the leaves searched hold fewer than k.
        options = {} if self.kind == "brute_force" else {"pre_reorder_num_neighbors": max(self.config.rescored, 4 * k)}
        if self.kind == "tree":
            options["leaves_to_search"] = self.config.leaves_searched
        found, found_scores = self._searcher.search_batched_parallel(queries, final_num_neighbors=wanted, **options)
        there = np.isfinite(found_scores)
        rows[:, :wanted] = np.where(there, found.astype(np.int64), NOTHING)
        scores[:, :wanted] = np.where(there, found_scores, -np.inf)
        return rows, scores


def measure_recall(bank: MemoryBank, queries: np.ndarray, k: int) -> float:
    """Share of the true k nearest that the index finds, over `queries` [Q, D] (exact search by matrix products).

    Counted by score: a document that scores as high as the k-th best is as right as that one, so that documents with
    equal embeddings do not count against the index.
    """
    k = min(k, bank.count)
    best = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, bank.count, 65_536):
        scores = queries @ bank.embeddings[start : start + 65_536].T
        best = -np.partition(-np.concatenate([best, scores], axis=1), k - 1, axis=1)[:, :k]
    _, found = bank.search(queries, k)
    return float((found >= best.min(axis=1, keepdims=True) - 1e-5).mean())


def _check(embeddings: np.ndarray, ids: np.ndarray) -> None:
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


def _build_index(embeddings: np.ndarray, config: MemoryBankConfig) -> Any:
    if config.kind != "brute_force" and len(embeddings) < 16:
        raise UserError(f"{len(embeddings)} documents are too few for a {config.kind} index; use kind 'brute_force'")
    builder = _scann().builder(embeddings, 10, "dot_product")
    if config.kind == "brute_force":
        return builder.score_brute_force().build()
    sample = config.training_sample
    if config.kind == "tree":
        builder = builder.tree(config.num_leaves, config.leaves_searched, training_sample_size=sample)
    return (
        builder.score_ah(
            config.dimensions_per_block,
            anisotropic_quantization_threshold=config.anisotropic_threshold,
            training_sample_size=sample,
        )
        .reorder(config.rescored)
        .build()
    )


def _scann() -> Any:
    from scann.scann_ops.py import scann_ops_pybind

    return scann_ops_pybind
