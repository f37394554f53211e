import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from cm3leon_jax.model.decoder import init_params
from cm3leon_jax.model.layers import layer_norm
from cm3leon_jax.model.products import linear


def test_initial_values_are_the_papers(config):
    big = dataclasses.replace(config, d_model=128, vocab_size=1024)
    params = init_params(big, jax.random.key(3))
    # A normal cut at ±3 standard deviations has 0.9866 of its standard deviation left.
    for weights, std in [
        (params["embedding"]["tokens"], 0.006),
        (params["embedding"]["positions"], 0.0002),
        (params["layers"]["attention"]["query"], 0.006),
        (params["layers"]["attention"]["key"], 0.006),
        (params["layers"]["attention"]["value"], 0.006),
        (params["layers"]["feed_forward"]["up"], 0.006),
    ]:
        assert weights.dtype == jnp.float32
        assert abs(float(weights.mean())) < 5 * std / weights.size**0.5
        np.testing.assert_allclose(float(weights.std()), 0.9866 * std, rtol=0.03)
        assert 2.8 * std < float(jnp.abs(weights).max()) <= 3 * std * (1 + 1e-6)
    assert not params["layers"]["attention"]["output"].any()
    assert not params["layers"]["feed_forward"]["down"].any()
    query = params["layers"]["attention"]["query"]
    assert not np.array_equal(query[0], query[1])
    assert not np.array_equal(query, params["layers"]["attention"]["key"])


def test_layer_norm_has_mean_0_and_variance_1_in_float32():
    x = 1000 + jax.random.normal(jax.random.key(0), (4, 64))
    y = np.asarray(layer_norm(x, 1e-5))
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(y.std(-1), 1, rtol=1e-3)
    assert layer_norm(x.astype(jnp.bfloat16), 1e-5).dtype == jnp.bfloat16


def test_linear_has_the_gradients_of_a_product_and_float32_ones_for_weights():
    keys = jax.random.split(jax.random.key(0), 3)
    for wide, narrow in ((48, 16), (16, 48)):
        x, w = jax.random.normal(keys[0], (2, 9, wide)), jax.random.normal(keys[1], (wide, narrow))
        g = jax.random.normal(keys[2], (2, 9, narrow))
        expected = jax.vjp(lambda x, w: x @ w, x, w)[1](g)
        for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)):
            y, vjp = jax.vjp(linear, x.astype(dtype), w)
            dx, dw = vjp(g.astype(dtype))
            assert y.dtype == dx.dtype == dtype and dw.dtype == jnp.float32
            for found, wanted in ((dx, expected[0]), (dw, expected[1])):
                scale = float(jnp.abs(wanted).max())
                np.testing.assert_allclose(np.asarray(found, np.float32), wanted, atol=tolerance * scale)
