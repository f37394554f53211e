"""Vectors that lie as embeddings of documents do, and queries that are none of them: made once, on disk, for all."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from cm3leon_jax.retrieval.memory_bank.recall import in_blocks, worst_of_best

K = 10  # nearest that are looked for
_LATENT = 64  # dimensions that the vectors vary in, but for a little noise in all


@dataclasses.dataclass(frozen=True)
class Vectors:
    """A folder with what every index is built over and asked."""

    directory: pathlib.Path

    @property
    def documents(self) -> np.ndarray:
        """float32 [N, D], of length one, from disk as needed."""
        return np.load(self.directory / "documents.npy", mmap_mode="r")

    @property
    def queries(self) -> np.ndarray:
        """float32 [Q, D], of length one."""
        return np.load(self.directory / "queries.npy")

    @property
    def worst(self) -> np.ndarray:
        """The inner product of each query with the K-th nearest document, [Q]."""
        return np.load(self.directory / "worst.npy")


def make_vectors(directory: pathlib.Path, count: int, queries: int, dim: int, seed: int = 0) -> Vectors:
    """`count` vectors around count / 1000 centres (16 at least), some clusters ten times as large as others."""
    rng = np.random.default_rng(seed)
    clusters = max(16, count // 1000)
    centres = rng.normal(size=(clusters, _LATENT)).astype(np.float32)
    shares = rng.uniform(0.1, 1.0, clusters)
    basis = rng.normal(size=(_LATENT, dim)).astype(np.float32) / np.float32(_LATENT) ** 0.5

    def draw(size: int) -> np.ndarray:
        latent = centres[rng.choice(clusters, size, p=shares / shares.sum())]
        latent = latent + np.float32(0.7) * rng.standard_normal((size, _LATENT), np.float32)
        vectors = latent @ basis + np.float32(0.05) * rng.standard_normal((size, dim), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    documents = np.lib.format.open_memmap(directory / "documents.npy", "w+", np.float32, (count, dim))
    for block in in_blocks(documents):
        block[:] = draw(len(block))
    documents.flush()
    asked = draw(queries)
    np.save(directory / "queries.npy", asked)
    np.save(directory / "worst.npy", worst_of_best(in_blocks(documents), asked, K))
    return Vectors(directory)
