import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cm3leon_jax.tokenizers.image.optimizer import RMS, make_optimizer, orthogonalized


@pytest.mark.parametrize("shape", [(90, 16), (16, 90), (24, 24)])
def test_singular_values_are_near_one_and_vectors_stay(shape):
    matrix = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    result = np.asarray(orthogonalized(jnp.asarray(matrix)))
    values = np.linalg.svd(result, compute_uv=False)
    # The smallest singular values of a square matrix are too small to be lifted in five iterations.
    assert values.max() < 1.3 and np.quantile(values, 0.1) > 0.6
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ result @ right.T
    np.testing.assert_allclose(inner - np.diag(np.diag(inner)), 0, atol=2e-3)


def test_no_gradient_means_no_update():
    np.testing.assert_array_equal(orthogonalized(jnp.zeros((6, 4))), 0)


def test_kernels_by_muon_and_the_rest_by_adam():
    params = {"kernel": jnp.ones((3, 3, 8, 16)), "bias": jnp.ones(16), "embedding": jnp.ones((4, 2))}
    optimizer = make_optimizer("muon", optax.constant_schedule(0.1), betas=(0.9, 0.99), clip_norm=1e9)
    rng = np.random.default_rng(0)
    gradient = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), params)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    assert float(jnp.sqrt(jnp.mean(updates["kernel"] ** 2))) == pytest.approx(0.1 * RMS, rel=0.25)
    np.testing.assert_allclose(updates["bias"], -0.1 * np.sign(gradient["bias"]), rtol=1e-3)
    np.testing.assert_allclose(updates["embedding"], -0.1 * np.sign(gradient["embedding"]), rtol=1e-3)
