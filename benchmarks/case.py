"""What is measured: a decoder's sizes, its weights and one batch, the same for every program. Numpy alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """A decoder, the shape of a batch, and how our step is set up for it."""

    layers: int
    d_model: int
    heads: int
    vocabulary: int
    rows: int
    length: int
    stack: str = "scan"
    remat: str = "none"
    loss_chunk: int = 128
    per_device_batch_size: int = 0
    # AdamW, the same in every program
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0

    @property
    def tokens(self) -> int:
        """Of one step."""
        return self.rows * self.length


SIZES = {
    "demo": Case(
        layers=4,
        d_model=128,
        heads=4,
        vocabulary=1536,
        rows=32,
        length=256,
        stack="unroll",
        loss_chunk=64,
    ),
    "d512": Case(layers=8, d_model=512, heads=8, vocabulary=1536, rows=8, length=256, stack="unroll"),
    "350m": Case(
        layers=24, d_model=1024, heads=16, vocabulary=65_536, rows=8, length=4096, learning_rate=1e-4, loss_chunk=512
    ),
    "760m": Case(
        layers=24, d_model=1536, heads=16, vocabulary=65_536, rows=8, length=4096, learning_rate=1e-4, loss_chunk=512
    ),
}


def make_weights(case: Case, seed: int = 0) -> dict[str, Any]:
    """A tree like the decoder's parameters, float32; no matrix is zero, so that losses depend on all of them."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(0.02)

    n, d = case.layers, case.d_model
    return {
        "embedding": {"tokens": normal(case.vocabulary, d), "positions": normal(case.length, d)},
        "layers": {
            "attention": {name: normal(n, d, d) for name in ("query", "key", "value", "output")},
            "feed_forward": {"up": normal(n, d, 4 * d), "down": normal(n, 4 * d, d)},
        },
    }


def make_batch(case: Case, *, packed: bool = False, seed: int = 0) -> dict[str, np.ndarray | None]:
    """Random rows [B, L]: one sequence each and nothing masked but what lies ahead, or three `packed` examples of
    unequal lengths, which see and count their own tokens alone."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, case.vocabulary, (case.rows, case.length + 1), dtype=np.int32)
    places = np.broadcast_to(np.arange(case.length, dtype=np.int32), (case.rows, case.length))
    batch: dict[str, np.ndarray | None] = {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "weights": np.ones((case.rows, case.length), np.float32),
        "positions": places,
        "segments": None,
    }
    if packed:
        cuts = np.sort(rng.integers(case.length // 4, 3 * case.length // 4, (case.rows, 2)), axis=1)
        segments = 1 + (places >= cuts[:, :1]).astype(np.int32) + (places >= cuts[:, 1:])
        starts = np.where(segments == 1, 0, np.where(segments == 2, cuts[:, :1], cuts[:, 1:]))
        batch |= {"positions": (places - starts).astype(np.int32), "segments": segments.astype(np.int32)}
    return batch
