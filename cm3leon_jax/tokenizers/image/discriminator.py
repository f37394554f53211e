"""PatchGAN (Isola et al. 2017): says for every patch of an image whether it is an original or a reconstruction."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from cm3leon_jax.tokenizers.image.layers import GroupNorm, conv


class Discriminator(nnx.Module):
    """Images [B, R, R, 3] -> logits [B, r, r], one a patch. GroupNorm instead of the original's BatchNorm, so that an
    image's logits depend on no other image and not on how a batch is split over devices."""

    def __init__(self, channels: int, layers: int, *, rngs: nnx.Rngs):
        make = functools.partial(conv, kernel=4, dtype=jnp.float32, padding=((1, 1), (1, 1)), rngs=rngs)
        widths = [channels * min(2**index, 8) for index in range(layers + 1)]
        strides = [2] * (layers - 1) + [1]
        self.conv_in = make(3, widths[0], stride=2)
        pairs = itertools.pairwise(widths)
        self.conv = nnx.List([make(*pair, stride=stride) for pair, stride in zip(pairs, strides, strict=True)])
        self.norm = nnx.List([GroupNorm(width, 1) for width in widths[1:]])
        self.conv_out = make(widths[-1], 1)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.leaky_relu(self.conv_in(images), 0.2)
        for layer, norm in zip(self.conv, self.norm, strict=True):
            x = nnx.leaky_relu(norm(layer(x)), 0.2)
        return self.conv_out(x)[..., 0]


def discriminator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Hinge loss of logits for originals and reconstructions."""
    return 0.5 * (jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake)))


def generator_loss(fake: jax.Array) -> jax.Array:
    """What the autoencoder lowers: reconstructions that pass for originals."""
    return -jnp.mean(fake)
