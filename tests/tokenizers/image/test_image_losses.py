import jax.numpy as jnp
import numpy as np
import pytest

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.tokenizers.image import losses
from cm3leon_jax.tokenizers.image.config import ImageTokenizerTraining
from cm3leon_jax.tokenizers.image.discriminator import discriminator_loss, generator_loss
from cm3leon_jax.tokenizers.image.losses import register_perceptual_loss


def images(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)


def test_l1_and_l2():
    x, y = images(0), images(1)
    training = ImageTokenizerTraining(l1_weight=2, l2_weight=3)
    expected = 2 * np.abs(x - y).mean() + 3 * ((x - y) ** 2).mean()
    assert float(losses.reconstruction_loss(x, y, training)) == pytest.approx(expected, rel=1e-5)


def test_contrast_weights_favour_what_differs_from_the_ground():
    x = np.full((1, 8, 8, 3), 0.9, np.float32)
    x[0, 2:4, 2:4] = -0.9
    weights = np.asarray(losses.contrast_weights(x, 2.0))
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    assert weights[0, 2, 2, 0] > 3 * weights[0, 0, 0, 0]
    np.testing.assert_allclose(losses.contrast_weights(np.zeros_like(x), 2.0), 1)


def test_perceptual_losses_are_found_by_name():
    register_perceptual_loss("half", lambda x, y: jnp.asarray(0.5))
    x = images(0)
    training = ImageTokenizerTraining(perceptual_loss="half", perceptual_weight=4)
    assert float(losses.reconstruction_loss(x, x, training)) == pytest.approx(2)
    with pytest.raises(UserError, match="half"):
        losses.perceptual_loss("quarter")


def test_hinge():
    real, fake = np.array([2.0, 0.0]), np.array([-2.0, 1.0])
    assert float(discriminator_loss(real, fake)) == pytest.approx(0.5 * (0.5 + 1.0))
    assert float(generator_loss(fake)) == pytest.approx(0.5)
