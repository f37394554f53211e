"""One trained tokenizer for the tests of this folder."""

import jax
import pytest
from tiny_tokenizer import LOOP, TINY, TRAINING, batch_of_step, squares

from cm3leon_jax.tokenizers.image.train import train_image_tokenizer


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory):
    """Runs of the same settings share their compiled programs."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, compiled_once):
    """(tokenizer, folder of the run)."""
    directory = tmp_path_factory.mktemp("image_tokenizer")
    return train_image_tokenizer(TINY, TRAINING, LOOP, batch_of_step, directory, squares(10_000, 12)), directory
