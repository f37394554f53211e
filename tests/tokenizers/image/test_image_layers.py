import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cm3leon_jax.tokenizers.image import layers


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs PyTorch, as a reference")


def test_group_norm_is_torchs(torch):
    norm = layers.GroupNorm(12, 4)
    norm.scale[...], norm.bias[...] = random(12, seed=1), random(12, seed=2)
    x = random(2, 5, 6, 12) * 3 + 1
    expected = torch.nn.functional.group_norm(
        torch.tensor(x).permute(0, 3, 1, 2), 4, torch.tensor(random(12, seed=1)), torch.tensor(random(12, seed=2)), 1e-6
    ).permute(0, 2, 3, 1)
    np.testing.assert_allclose(norm(x), expected.numpy(), atol=2e-5)


def test_upsample_is_nearest_neighbour_then_convolution():
    layer = layers.Upsample(3, dtype=jnp.float32, rngs=nnx.Rngs(0))
    layer.conv.bias[...] = random(3)
    x = random(2, 4, 5, 3)
    enlarged = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(layer(x), layer.conv(enlarged), atol=1e-5)


def test_upsample_gradient_is_that_of_the_plain_form():
    layer = layers.Upsample(3, dtype=jnp.float32, rngs=nnx.Rngs(0))
    graph, state = nnx.split(layer)
    x, weights = random(2, 4, 4, 3), random(2, 8, 8, 3, seed=1)

    def fast(state, x):
        return jnp.sum(nnx.merge(graph, state)(x) * weights)

    def plain(state, x):
        enlarged = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        return jnp.sum(nnx.merge(graph, state).conv(enlarged) * weights)

    got, expected = jax.grad(fast, (0, 1))(state, x), jax.grad(plain, (0, 1))(state, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), got, expected)


def test_downsample_is_tamings(torch):
    layer = layers.Downsample(3, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = random(2, 8, 6, 3)
    kernel = torch.tensor(np.asarray(layer.conv.kernel[...])).permute(3, 2, 0, 1)
    padded = torch.nn.functional.pad(torch.tensor(x).permute(0, 3, 1, 2), (0, 1, 0, 1))
    expected = torch.nn.functional.conv2d(padded, kernel, stride=2).permute(0, 2, 3, 1)
    np.testing.assert_allclose(layer(x), expected.numpy(), atol=1e-5)


def test_attention_is_numpys():
    layer = layers.AttnBlock(8, groups=2, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = random(1, 3, 3, 8)
    h = np.asarray(layer.norm(x)).reshape(9, 8)
    q, k, v = (h @ np.asarray(part.kernel[...])[0, 0] for part in (layer.q, layer.k, layer.v))
    scores = np.exp(q @ k.T / np.sqrt(8))
    mixed = scores / scores.sum(-1, keepdims=True) @ v
    expected = x + (mixed @ np.asarray(layer.proj_out.kernel[...])[0, 0]).reshape(x.shape)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_unfolding_undoes_folding(size):
    x = random(2, 8, 8, 3)
    folded = layers.fold_patches(x, size)
    assert folded.shape == (2, 8 // size, 8 // size, 3 * size * size)
    np.testing.assert_array_equal(folded[0, 0, 0].reshape(size, size, 3), x[0, :size, :size])
    np.testing.assert_array_equal(layers.unfold_patches(folded, size), x)
