"""What a reconstruction is measured by in training: pixels, and a perceptual distance if one is registered."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.tokenizers.image.config import ImageTokenizerTraining

# (originals, reconstructions), both float32 [B, R, R, 3] in [-1, 1] -> a scalar to be lowered. Runs inside jax.jit.
PerceptualLoss = Callable[[jax.Array, jax.Array], jax.Array]
_PERCEPTUAL_LOSSES: dict[str, PerceptualLoss] = {}


def register_perceptual_loss(name: str, loss: PerceptualLoss) -> None:
    """Makes `loss` available as `ImageTokenizerTraining(perceptual_loss=name)`. "none" stands for no such loss."""
    _PERCEPTUAL_LOSSES[name] = loss


def perceptual_loss(name: str) -> PerceptualLoss | None:
    """The registered loss, or None for "none". Raises `UserError` on an unknown name."""
    if name == "none":
        return None
    if name not in _PERCEPTUAL_LOSSES:
        known = ", ".join(["none", *_PERCEPTUAL_LOSSES])
        raise UserError(f"no perceptual loss {name!r}; known are {known}; register_perceptual_loss adds one")
    return _PERCEPTUAL_LOSSES[name]


def contrast_weights(images: jax.Array, strength: float) -> jax.Array:
    """[B, R, R, 3] -> weights [B, R, R, 1] with mean 1 in every image, larger where a pixel differs from the image's
    mean colour (`ImageTokenizerTraining.contrast_weight`)."""
    contrast = jnp.abs(images - images.mean((1, 2), keepdims=True)).mean(-1, keepdims=True)
    contrast = contrast / jnp.maximum(contrast.mean((1, 2), keepdims=True), 1e-3)
    weights = 1 + strength * contrast
    return weights / weights.mean((1, 2), keepdims=True)


def reconstruction_loss(images: jax.Array, reconstructions: jax.Array, training: ImageTokenizerTraining) -> jax.Array:
    """Weighted L1 + L2 (+ perceptual) between [B, R, R, 3] images in [-1, 1] -> scalar."""
    difference = images - reconstructions
    pixels = training.l1_weight * jnp.abs(difference) + training.l2_weight * difference**2
    if training.contrast_weight:
        pixels = pixels * contrast_weights(images, training.contrast_weight)
    loss = pixels.mean()
    perceptual = perceptual_loss(training.perceptual_loss)
    if perceptual is not None:
        loss = loss + training.perceptual_weight * perceptual(images, reconstructions)
    return loss
