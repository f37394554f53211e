"""ScaNN's index over the vectors of one shard. It knows rows, not ids.

ScaNN brings TensorFlow along, so it is imported where it is first needed.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np

from cm3leon_jax.retrieval.memory_bank.config import MemoryBankConfig
from cm3leon_jax.runtime.errors import UserError

EMBEDDINGS_FILE = "dataset.npy"  # written by ScaNN, float32 [N, D]
NOTHING = -1  # the row, and the id, where there are fewer documents than were asked for
SMALLEST = 16  # vectors that hashes can be trained on
# A leaf that fewer vectors were trained on is joined with another. ScaNN's own 50 joins most of a tree of many leaves,
# and recall then ends at 97%, however many are searched.
_SMALLEST_LEAF = 1
_QUERIES_AT_ONCE = 16_384  # ScaNN holds each one's candidates until all are done


@dataclasses.dataclass(frozen=True)
class Index:
    """An index in memory over N vectors, which it holds too."""

    searcher: Any  # ScaNN's
    count: int  # N

    @classmethod
    def build(cls, embeddings: np.ndarray, config: MemoryBankConfig) -> Index:
        """Over `embeddings` float32 [N, D]; `config` resolved for N. `UserError`: they are too few for its kind."""
        count = len(embeddings)
        if config.kind != "brute_force" and count < SMALLEST:
            raise UserError(f"{count} documents are too few for a {config.kind} index; use kind 'brute_force'")
        builder = _scann().builder(embeddings, 10, "dot_product")
        if config.kind == "brute_force":
            return cls(builder.score_brute_force().build(), count)
        sample = config.training_sample
        if config.kind == "tree":
            builder = builder.tree(
                config.num_leaves,
                config.leaves_searched,
                training_sample_size=sample,
                min_partition_size=_SMALLEST_LEAF,
            )
        builder = builder.score_ah(
            config.dimensions_per_block,
            anisotropic_quantization_threshold=config.anisotropic_threshold,
            training_sample_size=sample,
        )
        return cls(builder.reorder(config.rescored).build(), count)

    @classmethod
    def load(cls, directory: pathlib.Path, count: int) -> Index:
        """What `save` wrote, read into memory. OSError, ValueError or RuntimeError where that fails."""
        return cls(_scann().load_searcher(str(directory)), count)

    def save(self, directory: pathlib.Path) -> None:
        """Writes ScaNN's own files, the vectors among them, into an existing folder. The folder can be moved."""
        self.searcher.serialize(str(directory), relative_path=True)

    def search(self, queries: np.ndarray, k: int, config: MemoryBankConfig) -> tuple[np.ndarray, np.ndarray]:
        """Queries float32 [Q, D] -> rows int64 [Q, k] and inner products float32 [Q, k], best first.

        `config` is that of `build`, but may search more leaves or fewer, and score more again or fewer. Where fewer
        than k are found, the row is -1 and the score -inf; these stand last.
        """
        rows = np.full((len(queries), k), NOTHING, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        wanted = min(k, self.count)
        if not wanted:
            return rows, scores
        options = {}
        if config.kind != "brute_force":
            options["pre_reorder_num_neighbors"] = max(config.rescored, 4 * k)
        if config.kind == "tree":
            options["leaves_to_search"] = config.leaves_searched
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            block = slice(start, start + _QUERIES_AT_ONCE)
            found, found_scores = self.searcher.search_batched_parallel(
                queries[block], final_num_neighbors=wanted, **options
            )
            # ScaNN pads with row 0 and a score that is not a number, also where the leaves searched hold fewer than k.
            there = np.isfinite(found_scores)
            rows[block, :wanted] = np.where(there, found.astype(np.int64), NOTHING)
            scores[block, :wanted] = np.where(there, found_scores, -np.inf)
        return rows, scores


def _scann() -> Any:
    from scann.scann_ops.py import scann_ops_pybind

    return scann_ops_pybind
