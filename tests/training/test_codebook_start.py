import jax
import numpy as np
import pytest

from cm3leon_jax.model.decoder import init_params, logical_axes
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.training.codebook_start import projected, with_codebook


@pytest.fixture(scope="module")
def codebook(vocabulary):
    return np.random.default_rng(0).normal(2.0, 3.0, size=(vocabulary.image_size, 6))


def test_only_the_rows_of_image_tokens_change(config, vocabulary, partitioning, codebook):
    params = init_params(config, jax.random.key(0))
    sharding = partitioning.tree(logical_axes(config))["embedding"]["tokens"]
    started = with_codebook(params, codebook, vocabulary, std=config.init_std, seed=3, sharding=sharding)
    before, after = params["embedding"].pop("tokens"), started["embedding"].pop("tokens")
    images = slice(vocabulary.image_offset, vocabulary.break_id)
    np.testing.assert_array_equal(after[images], projected(codebook, config.d_model, std=config.init_std, seed=3))
    np.testing.assert_array_equal(np.delete(after, images, axis=0), np.delete(before, images, axis=0))
    assert after.sharding == sharding
    jax.tree.map(np.testing.assert_array_equal, started, params)


def test_code_vectors_that_are_alike_start_alike():
    groups = np.random.default_rng(1).normal(size=(10, 1, 8))
    codebook = (groups + 0.1 * np.random.default_rng(2).normal(size=(10, 4, 8))).reshape(40, 8)
    rows = projected(codebook, 256, std=0.05, seed=0)
    assert rows.dtype == np.float32
    assert float(rows.mean()) == pytest.approx(0, abs=1e-6)
    assert float(rows.std()) == pytest.approx(0.05, rel=1e-5)
    distances = np.linalg.norm(rows[:, None] - rows, axis=-1)
    same = np.repeat(np.arange(10), 4)[:, None] == np.repeat(np.arange(10), 4)
    assert distances[same].max() < distances[~same].min()


def test_the_codebook_of_another_tokenizer_is_refused(config, vocabulary, codebook):
    with pytest.raises(UserError, match="use the tokenizer that prepared the data"):
        with_codebook({}, codebook[:-1], vocabulary, std=0.1, seed=0, sharding=None)
