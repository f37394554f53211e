import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cm3leon_jax.tokenizers.image import quantizer
from cm3leon_jax.tokenizers.image.config import ImageTokenizerTraining


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_nearest_code_is_numpys():
    latents, codebook = random(50, 6), random(20, 6, seed=1)
    distances = ((latents[:, None].astype(np.float64) - codebook) ** 2).sum(-1)
    np.testing.assert_array_equal(quantizer.nearest_codes(latents, codebook), distances.argmin(-1))


def test_straight_through_gives_the_vectors_and_passes_the_gradient_to_the_latents():
    latents, vectors, weights = random(5, 4), random(5, 4, seed=1), random(5, 4, seed=2)
    np.testing.assert_allclose(quantizer.straight_through(latents, vectors), vectors, atol=1e-6)
    to_latents, to_vectors = jax.grad(lambda a, b: jnp.sum(quantizer.straight_through(a, b) * weights), argnums=(0, 1))(
        latents, vectors
    )
    np.testing.assert_allclose(to_latents, weights)
    np.testing.assert_array_equal(to_vectors, 0)


def test_perplexity_counts_codes_in_even_use():
    assert float(quantizer.perplexity(jnp.array([5.0, 5, 5, 5, 0, 0]))) == pytest.approx(4, rel=1e-4)


def test_first_codes_find_the_clusters():
    centers = np.array([[0, 0], [10, 0], [0, 10], [10, 10], [30, 30]], np.float32)
    members = np.repeat(np.arange(5), [400, 50, 50, 50, 3])
    latents = centers[members] + 0.1 * random(len(members), 2)
    codebook, usage = quantizer.initial_codes(jnp.asarray(latents), 5, jax.random.key(0))
    order = quantizer.nearest_codes(centers, codebook)
    assert sorted(order.tolist()) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(codebook[order], centers, atol=0.2)
    np.testing.assert_allclose(usage.counts[order], [400, 50, 50, 50, 3])


def update(latents, table, usage, *, step=1, **settings):
    training = ImageTokenizerTraining(**settings)
    codes = quantizer.nearest_codes(latents, table)
    return quantizer.updated_codebook(
        jnp.asarray(table), usage, latents, codes, training=training, step=step, key=jax.random.key(0)
    )


def test_moving_averages_lead_codes_to_the_mean_of_their_latents():
    latents = jnp.concatenate([1 + 0.1 * random(30, 2), -1 + 0.1 * random(30, 2, seed=1)])
    codebook = np.array([[3.0, 0], [-3.0, 0]], np.float32)
    usage = quantizer.initial_usage(2, 2)
    for step in range(1, 200):
        codebook, usage, _ = update(latents, codebook, usage, step=step, ema_decay=0.9, revive_every=0)
    np.testing.assert_allclose(codebook, [latents[:30].mean(0), latents[30:].mean(0)], atol=1e-4)
    np.testing.assert_allclose(usage.counts, [30, 30], rtol=1e-4)


def test_gradient_learned_codes_are_left_alone_but_counted():
    latents, table = random(30, 2), random(4, 2, seed=1)
    after, usage, _ = update(latents, table, quantizer.initial_usage(4, 2), codebook="loss", revive_every=0)
    np.testing.assert_array_equal(after, table)
    assert float(usage.counts.sum()) == pytest.approx(30 * (1 - ImageTokenizerTraining().ema_decay), rel=1e-4)


@pytest.mark.parametrize("codebook_mode", ["ema", "loss"])
def test_dead_codes_move_to_where_latents_are_served_worst(codebook_mode):
    latents = jnp.concatenate([0.01 * random(60, 2), 5 + 0.01 * random(4, 2, seed=1)])
    codebook = np.array([[0, 0], [100, 100], [200, 200]], np.float32)
    even = quantizer.Usage(jnp.array([60.0, 0, 0]), jnp.zeros((3, 2)))
    codebook, usage, revived = update(latents, codebook, even, step=10, codebook=codebook_mode, revive_every=10)
    assert int(revived) == 2
    np.testing.assert_allclose(codebook[1:], 5, atol=0.1)
    assert not np.array_equal(codebook[1], codebook[2])
    assert float(usage.counts[1:].min()) > 1
    np.testing.assert_allclose(usage.sums[1:], codebook[1:] * usage.counts[1:, None])


def test_between_revivals_dead_codes_stay():
    codebook = np.array([[0, 0], [100, 100]], np.float32)
    after, _, revived = update(
        jnp.asarray(random(20, 2)), codebook, quantizer.initial_usage(2, 2), step=9, revive_every=10
    )
    assert int(revived) == 0
    np.testing.assert_array_equal(after[1], codebook[1])
