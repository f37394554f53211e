"""A tiny decoder with random weights."""

import numpy as np
import pytest
from tiny_generator import CONFIG, VOCABULARY, random_params

from cm3leon_jax.documents import Document


@pytest.fixture(scope="session")
def vocabulary():
    return VOCABULARY


@pytest.fixture(scope="session")
def config():
    return CONFIG


@pytest.fixture(scope="session")
def params():
    return random_params()


@pytest.fixture
def make_document(vocabulary):
    """A random document: `make_document(seed, text length, image length)`."""

    def make(seed: int, text: int = 5, image: int = 16) -> Document:
        rng = np.random.default_rng(seed)
        return Document(rng.integers(3, vocabulary.text_size, text), rng.integers(0, vocabulary.image_size, image))

    return make
