import functools

import jax
import jax.numpy as jnp
import numpy as np

from cm3leon_jax.model.decoder import hidden_states, logits
from cm3leon_jax.model.int8 import Int8
from cm3leon_jax.model.products import linear, lookup
from cm3leon_jax.sampling.weights import PrecisionConfig, sampling_params


def test_the_nearest_number_with_one_scale_along_an_axis():
    x = np.random.default_rng(0).normal(size=(3, 8, 5)).astype(np.float32)
    rounded = Int8.of(jnp.asarray(x), axis=1)
    assert rounded.data.dtype == jnp.int8 and rounded.scales.shape == (3, 1, 5)
    np.testing.assert_allclose(rounded.scales[:, 0], np.abs(x).max(1) / 127, rtol=1e-6)
    assert (np.abs(rounded.numbers(jnp.float32) - x) <= np.asarray(rounded.scales) / 2 * 1.001).all()
    zeros = Int8.of(jnp.zeros((2, 2)), axis=1)
    assert not zeros.data.any() and np.isfinite(zeros.scales).all()


def test_products_and_rows_are_those_of_the_numbers_that_it_stands_for():
    rng = np.random.default_rng(1)
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 8), (8, 8)))
    rounded = Int8.of(jnp.asarray(weight), axis=0)
    exact = rounded.numbers(jnp.float32)
    np.testing.assert_allclose(linear(x, rounded), linear(x, exact), atol=1e-5)
    split = linear(x, (rounded * 0.5).reshape(8, 2, 4))
    np.testing.assert_allclose(split, linear(x, 0.5 * exact.reshape(8, 2, 4)), atol=1e-5)
    heads = x.reshape(2, 3, 2, 4)
    joined = linear(heads, rounded.reshape(2, 4, 8), 2)
    np.testing.assert_allclose(joined, linear(heads, exact.reshape(2, 4, 8), 2), atol=1e-5)
    table = Int8.of(jnp.asarray(weight), axis=1)
    np.testing.assert_array_equal(
        lookup(table, jnp.array([[1, 5]]), jnp.float32), table.numbers(jnp.float32)[jnp.array([[1, 5]])]
    )


def test_a_decoder_of_int8_weights_gives_nearly_its_logits(scanned, params):
    tokens = jax.random.randint(jax.random.key(3), (2, 20), 0, 64)

    @functools.partial(jax.jit, static_argnames="precision")
    def found(precision):
        rounded = sampling_params(params, config=scanned, precision=precision)
        return logits(rounded, hidden_states(rounded, tokens, config=scanned))

    exact, rounded = found(PrecisionConfig()), found(PrecisionConfig(weights="int8"))
    error = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 1e-4 < error < 0.03
