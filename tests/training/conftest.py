"""A tiny model and batches of packed examples, with their expected shapes."""

import numpy as np
import pytest

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.training.optimizer import OptimizerConfig
from cm3leon_jax.vocabulary import Vocabulary

ROWS, LENGTH, STEPS = 8, 24, 40


@pytest.fixture(scope="session")
def vocabulary():
    return Vocabulary(text_size=24, image_size=24, num_sentinels=4, multiple_of=64)


@pytest.fixture(scope="session")
def config(vocabulary):
    return DecoderConfig(
        vocab_size=vocabulary.size,
        num_layers=2,
        d_model=32,
        num_heads=4,
        max_length=LENGTH,
        init_std=0.1,
        compute_dtype="float32",
        stack="scan",
    )


@pytest.fixture(scope="session")
def optimizer_config():
    return OptimizerConfig(learning_rate=3e-3, warmup_steps=5)


@pytest.fixture(scope="session")
def partitioning():
    return Partitioning(make_mesh(MeshConfig()))


@pytest.fixture(scope="session")
def batch_of_step():
    def make(step: int) -> dict[str, np.ndarray]:
        """Counting sequences, two to a row, the second one a third padding."""
        rng = np.random.default_rng([7, step])
        half = LENGTH // 2
        starts = rng.integers(3, 50, (ROWS, 2, 1))
        tokens = (starts + np.arange(half + 1)) % 48 + 2
        flat = {"tokens": tokens[..., :-1], "targets": tokens[..., 1:]}
        segments = np.broadcast_to(np.array([[1], [2]]), (ROWS, 2, half)).copy()
        segments[:, 1, -half // 3 :] = 0
        flat |= {"positions": np.broadcast_to(np.arange(half), (ROWS, 2, half)), "segments": segments}
        batch = {name: value.reshape(ROWS, LENGTH).astype(np.int32) for name, value in flat.items()}
        return batch | {"weights": (batch["segments"] > 0).astype(np.float32)}

    return make
