"""FID's Inception-v3 up to its pooled features, and how images come to it (Heusel et al. 2017, as pytorch-fid computes
it). The modules say which parameters there are; `bind` puts a nested dict of them in."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from cm3leon_jax.evaluation.fid.inception_blocks import (
    BlockA,
    BlockB,
    BlockC,
    BlockD,
    BlockE,
    Unit,
    average_pool,
    halve,
    max_pool,
)

SIDE = 299  # pixels
DIM = 2048


class InceptionV3(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.Conv2d_1a_3x3 = Unit(3, 32, (3, 3), stride=2, padding="VALID", rngs=rngs)
        self.Conv2d_2a_3x3 = Unit(32, 32, (3, 3), padding="VALID", rngs=rngs)
        self.Conv2d_2b_3x3 = Unit(32, 64, (3, 3), rngs=rngs)
        self.Conv2d_3b_1x1 = Unit(64, 80, (1, 1), rngs=rngs)
        self.Conv2d_4a_3x3 = Unit(80, 192, (3, 3), padding="VALID", rngs=rngs)
        self.Mixed_5b = BlockA(192, 32, rngs)
        self.Mixed_5c = BlockA(256, 64, rngs)
        self.Mixed_5d = BlockA(288, 64, rngs)
        self.Mixed_6a = BlockB(288, rngs)
        self.Mixed_6b = BlockC(768, 128, rngs)
        self.Mixed_6c = BlockC(768, 160, rngs)
        self.Mixed_6d = BlockC(768, 160, rngs)
        self.Mixed_6e = BlockC(768, 192, rngs)
        self.Mixed_7a = BlockD(768, rngs)
        self.Mixed_7b = BlockE(1280, average_pool, rngs)
        self.Mixed_7c = BlockE(2048, max_pool, rngs)

    def __call__(self, images_Bx299x299x3: jax.Array) -> jax.Array:
        """float32 in -1..1 -> pooled features, float32 [B, 2048]."""
        with jax.named_scope("stem"):
            x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images_Bx299x299x3)))
            x = halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(halve(x))))
        with jax.named_scope("35x35"):
            x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        with jax.named_scope("17x17"):
            x = self.Mixed_6a(x)
            x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        with jax.named_scope("8x8"):
            x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((1, 2))


@jax.jit
def prepare(images: jax.Array) -> jax.Array:
    """uint8 [B, H, W, 3] -> float32 [B, 299, 299, 3] in -1..1.

    Bilinear between the four nearest pixels' centres, whatever the size; so larger images are not smoothed first
    (pytorch-fid's choice, `align_corners=False`).
    """
    pixels = images.astype(jnp.float32) / 255
    return 2 * jax.image.resize(pixels, (len(images), SIDE, SIDE, 3), "bilinear", antialias=False) - 1


@jax.jit
def features(params: dict, images_Bx299x299x3: jax.Array) -> jax.Array:
    """What `prepare` gives -> float32 [B, 2048]. Apart from it, so that another size of images compiles little."""
    return bind(params)(images_Bx299x299x3)


def abstract_params() -> dict:
    """Shapes and types of the parameters: a nested dict of `ShapeDtypeStruct`s."""
    return nnx.to_pure_dict(_skeleton()[1])


def bind(params: dict) -> InceptionV3:
    """The network with these parameters; for use inside a compiled function."""
    graph, state = _skeleton()
    state = jax.tree.map(lambda leaf: leaf, state)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


@functools.cache
def _skeleton() -> tuple:
    return nnx.split(nnx.eval_shape(lambda: InceptionV3(rngs=nnx.Rngs(0))), nnx.Param)
