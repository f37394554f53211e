"""One trained tokenizer for the tests of this folder."""

import pytest
from tiny_tokenizer import LOOP, TINY, TRAINING, batch_of_step, squares

from cm3leon_jax.tokenizers.image.train import train_image_tokenizer


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """(tokenizer, folder of the run)."""
    directory = tmp_path_factory.mktemp("image_tokenizer")
    return train_image_tokenizer(TINY, TRAINING, LOOP, batch_of_step, directory, squares(10_000, 12)), directory
