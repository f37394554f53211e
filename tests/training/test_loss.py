import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cm3leon_jax.model.partitioning import UNPARTITIONED, MeshConfig, Partitioning, make_mesh
from cm3leon_jax.training.loss import cross_entropy

B, L, D, V = 4, 22, 16, 40


def plain(hidden, table, targets, weights, z_loss=0.0):
    logits = hidden.astype(jnp.float32) @ table.T
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    nll = normalizer - jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return (weights * (nll + z_loss * normalizer**2)).sum(), nll


@pytest.fixture(scope="module")
def arguments():
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, table = 3 * jax.random.normal(keys[0], (B, L, D)), jax.random.normal(keys[1], (V, D))
    return hidden, table, jax.random.randint(keys[2], (B, L), 0, V), jax.random.uniform(keys[3], (B, L))


def with_gradients(function, *arguments):
    # The factor checks that the gradient made in advance is scaled by what arrives from above.
    scaled = lambda *x: (lambda total, nll: (0.5 * total, nll))(*function(*x))  # noqa: E731
    (total, nll), gradients = jax.jit(jax.value_and_grad(scaled, argnums=(0, 1), has_aux=True))(*arguments)
    return total, nll, *gradients


@pytest.mark.parametrize(("chunk", "z_loss"), [(5, 0.01), (64, 0.0)])
@pytest.mark.parametrize("split", [False, True])
def test_chunks_give_the_plain_loss_and_its_gradients(arguments, chunk, z_loss, split):
    partitioning = Partitioning(make_mesh(MeshConfig())) if split else UNPARTITIONED
    chunked = functools.partial(cross_entropy, chunk=chunk, z_loss=z_loss, partitioning=partitioning)
    found = with_gradients(chunked, *arguments)
    expected = with_gradients(functools.partial(plain, z_loss=z_loss), *arguments)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
    # Without a gradient another path is taken.
    np.testing.assert_allclose(jax.jit(chunked)(*arguments)[0], 2 * expected[0], rtol=1e-5)


@pytest.mark.parametrize("chunk", [8, 64])  # the second is longer than a row
def test_bfloat16_stays_near(arguments, chunk):
    hidden, table, targets, weights = arguments
    found = with_gradients(
        functools.partial(cross_entropy, chunk=chunk), hidden.astype(jnp.bfloat16), table, targets, weights
    )
    expected = with_gradients(plain, *arguments)
    assert found[2].dtype == jnp.bfloat16 and found[3].dtype == jnp.float32
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float32), y, atol=0.03 * float(jnp.abs(y).max()))


def test_no_array_is_as_large_as_all_logits(arguments):
    text = jax.jit(jax.grad(lambda *x: cross_entropy(*x, chunk=2)[0])).lower(*arguments).as_text()
    assert f"{V}x{B}x2xf32" in text  # the logits of a chunk
    sizes = [np.prod([int(n) for n in shape.split("x")]) for shape in _shapes(text)]
    assert max(sizes) < B * L * V


def _shapes(text):
    import re

    return re.findall(r"tensor<((?:\d+x)*\d+)xf32>", text)
