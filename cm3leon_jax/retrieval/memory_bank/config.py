"""Which index each shard of a memory bank has, how thorough it is, and how large a shard is."""

from __future__ import annotations

import dataclasses
import math

from cm3leon_jax.runtime.errors import UserError

KINDS = ("brute_force", "hashing", "tree")


@dataclasses.dataclass(frozen=True)
class MemoryBankConfig:
    """Which index, and how thorough it is. More leaves searched and more rescored: better recall, slower."""

    kind: str = "auto"  # or "brute_force", "hashing" (asymmetric hashing), "tree" (a tree above the hashes)
    brute_force_below: int = 20_000  # vectors; "auto" compares with all of them below this, and makes a tree above it
    num_leaves: int = 0  # of the tree; 0: twice the square root of the number of vectors
    leaves_searched: int = 0  # for each query; 0: eight, or one in 250 if that is more
    dimensions_per_block: int = 2  # dimensions that share a 4-bit code
    anisotropic_threshold: float = 0.2  # how much more an error along a vector counts (Guo et al. 2020); ScaNN's advice
    rescored: int = 200  # candidates that are scored again exactly; four for each one asked for, if that is more
    recall_goal: float = 0.99  # of the 10 nearest; leaves searched and rescored are doubled until it is reached
    training_sample: int = 100_000  # vectors that hashes and tree are trained on
    recall_queries: int = 1_000  # vectors that recall is measured with
    documents_per_shard: int = 1_000_000  # at most; a shard is built at once and is in memory as a whole

    def __post_init__(self) -> None:
        if self.kind not in ("auto", *KINDS):
            raise UserError(f"memory bank of kind {self.kind!r}; use one of auto, {', '.join(KINDS)}")
        if self.documents_per_shard < 1:
            raise UserError(f"documents_per_shard = {self.documents_per_shard}; use a number from 1 up")

    def resolved(self, count: int) -> MemoryBankConfig:
        """The same with what depends on the number of vectors of a shard filled in."""
        kind = self.kind
        if kind == "auto":
            kind = "brute_force" if count < self.brute_force_below else "tree"
        leaves = self.num_leaves or max(1, 2 * math.isqrt(count))
        searched = min(leaves, self.leaves_searched or max(8, -(-leaves // 250)))
        return dataclasses.replace(self, kind=kind, num_leaves=leaves, leaves_searched=searched)

    def more_thorough(self, count: int) -> MemoryBankConfig:
        """Twice the leaves and candidates, up to all of them: there a resolved configuration equals itself."""
        return dataclasses.replace(
            self,
            leaves_searched=min(self.num_leaves, 2 * self.leaves_searched),
            rescored=min(count, 2 * self.rescored),
        )
