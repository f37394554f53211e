"""A tiny decoder with random weights. Its output projections are not zero, as they are at initialisation."""

import jax
import numpy as np
import pytest

from cm3leon_jax.documents import Document
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import init_params
from cm3leon_jax.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def vocabulary():
    return Vocabulary(text_size=30, image_size=24, num_sentinels=8, multiple_of=16)


@pytest.fixture(scope="session")
def config(vocabulary):
    return DecoderConfig(
        vocab_size=vocabulary.size, num_layers=2, d_model=32, num_heads=2, max_length=96, compute_dtype="float32"
    )


@pytest.fixture(scope="session")
def params(config):
    leaves, tree = jax.tree.flatten(init_params(config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [(rng.normal(size=leaf.shape) * 0.4).astype(np.float32) for leaf in leaves])


@pytest.fixture
def make_document(vocabulary):
    """A random document: `make_document(seed, text length, image length)`."""

    def make(seed: int, text: int = 5, image: int = 16) -> Document:
        rng = np.random.default_rng(seed)
        return Document(rng.integers(3, vocabulary.text_size, text), rng.integers(0, vocabulary.image_size, image))

    return make
