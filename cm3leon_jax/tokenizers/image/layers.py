"""Building blocks of the VQGAN, named and shaped as in taming-transformers, so that published weights map onto them.

Images and feature maps are [B, H, W, C]. Parameters are float32, convolutions run in `dtype`, norms in float32.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

# GroupNorm as everywhere in VQGAN; PyTorch's default of 1e-5 is not what it uses.
NORM_EPSILON = 1e-6


def conv(
    inputs: int,
    outputs: int,
    *,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
    kernel: int = 3,
    stride: int = 1,
    padding: int | tuple[tuple[int, int], tuple[int, int]] | None = None,
) -> nnx.Conv:
    """A square convolution with bias; `padding` None keeps the size at stride 1.

    XLA's own convolutions reach 70-80% of a CPU's matrix peak, gradients included (measured; forming them as matrix
    products over shifted slices was up to five times slower).
    """
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=(stride, stride),
        padding=kernel // 2 if padding is None else padding,
        dtype=dtype,
        rngs=rngs,
    )


class GroupNorm(nnx.Module):
    """GroupNorm over [B, H, W, C] in float32 -> float32; the identity without parameters where `groups` is 0.

    Sums over positions first, which XLA fuses best.
    """

    def __init__(self, channels: int, groups: int):
        if groups:
            self.scale = nnx.Param(jnp.ones(channels))
            self.bias = nnx.Param(jnp.zeros(channels))
        self.groups = groups

    def __call__(self, x: jax.Array) -> jax.Array:
        if not self.groups:
            return x
        batch, height, width, channels = x.shape
        x = x.astype(jnp.float32)
        count = height * width * channels // self.groups
        sums, squares = x.sum((1, 2)), (x * x).sum((1, 2))
        mean = sums.reshape(batch, self.groups, -1).sum(-1) / count
        variance = squares.reshape(batch, self.groups, -1).sum(-1) / count - mean * mean
        inverse = jax.lax.rsqrt(jnp.maximum(variance, 0) + NORM_EPSILON)
        mean, inverse = (jnp.repeat(v, channels // self.groups, axis=1)[:, None, None] for v in (mean, inverse))
        return (x - mean) * (inverse * self.scale[...]) + self.bias[...]


class ResBlock(nnx.Module):
    """Norm, swish, convolution, twice, beside the identity (or a 1x1 convolution where the channels change)."""

    def __init__(self, inputs: int, outputs: int, *, groups: int, dtype: DTypeLike, rngs: nnx.Rngs):
        self.norm1 = GroupNorm(inputs, groups)
        self.conv1 = conv(inputs, outputs, dtype=dtype, rngs=rngs)
        self.norm2 = GroupNorm(outputs, groups)
        self.conv2 = conv(outputs, outputs, dtype=dtype, rngs=rngs)
        if inputs != outputs:
            self.nin_shortcut = conv(inputs, outputs, kernel=1, dtype=dtype, rngs=rngs)
        self.changes_channels = inputs != outputs

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.conv1(jax.nn.swish(self.norm1(x)))
        h = self.conv2(jax.nn.swish(self.norm2(h)))
        return h + (self.nin_shortcut(x) if self.changes_channels else x)


class AttnBlock(nnx.Module):
    """Single-head attention of every position to every other, beside the identity."""

    def __init__(self, channels: int, *, groups: int, dtype: DTypeLike, rngs: nnx.Rngs):
        pointwise = functools.partial(conv, channels, channels, kernel=1, dtype=dtype, rngs=rngs)
        self.norm = GroupNorm(channels, groups)
        self.q, self.k, self.v, self.proj_out = pointwise(), pointwise(), pointwise(), pointwise()

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        h = self.norm(x)
        q, k, v = (layer(h).reshape(batch, height * width, channels) for layer in (self.q, self.k, self.v))
        scores = jnp.einsum("bqc,bkc->bqk", q, k, preferred_element_type=jnp.float32) * channels**-0.5
        mixed = jnp.einsum("bqk,bkc->bqc", jax.nn.softmax(scores).astype(v.dtype), v)
        return x + self.proj_out(mixed.reshape(x.shape))


class Middle(nnx.Module):
    """The lowest resolution's block of encoder and decoder: residual, attention, residual."""

    def __init__(self, channels: int, *, groups: int, dtype: DTypeLike, rngs: nnx.Rngs):
        self.block_1 = ResBlock(channels, channels, groups=groups, dtype=dtype, rngs=rngs)
        self.attn_1 = AttnBlock(channels, groups=groups, dtype=dtype, rngs=rngs)
        self.block_2 = ResBlock(channels, channels, groups=groups, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.block_2(self.attn_1(self.block_1(x)))


class Downsample(nnx.Module):
    """Halves height and width by a strided convolution, padded at the bottom and right alone."""

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = conv(channels, channels, stride=2, padding=((0, 1), (0, 1)), dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


class Upsample(nnx.Module):
    """Doubles height and width: nearest neighbour, then a 3x3 convolution.

    Of the nine taps on the enlarged map several fall on the same small pixel, so each of the four phases of the output
    is a 2x2 convolution of the small map with summed taps: the same numbers for 4/9 of the work.
    """

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = conv(channels, channels, dtype=dtype, rngs=rngs)
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        x, kernel = x.astype(self.dtype), self.conv.kernel[...]
        phases = jnp.stack([self._phase(x, kernel, row, column) for row in (0, 1) for column in (0, 1)])
        phases = phases.reshape(2, 2, batch, height, width, channels).transpose(2, 3, 0, 4, 1, 5)
        assert self.conv.bias is not None
        return phases.reshape(batch, 2 * height, 2 * width, channels) + self.conv.bias[...].astype(self.dtype)

    def _phase(self, x: jax.Array, kernel: jax.Array, row: int, column: int) -> jax.Array:
        """Output pixels (2i + row, 2j + column), [B, H, W, C]."""
        kernel = _sum_taps(_sum_taps(kernel, row, axis=0), column, axis=1)
        return jax.lax.conv_general_dilated(
            x,
            kernel.astype(self.dtype),
            window_strides=(1, 1),
            padding=((1 - row, row), (1 - column, column)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


def _sum_taps(kernel: jax.Array, phase: int, axis: int) -> jax.Array:
    """Three taps on the enlarged axis -> two on the small one: phase 0 sees (i - 1, i, i), phase 1 (i, i, i + 1)."""
    first, second, third = jnp.split(kernel, 3, axis=axis)
    pair = (first, second + third) if phase == 0 else (first + second, third)
    return jnp.concatenate(pair, axis=axis)


def fold_patches(images: jax.Array, size: int) -> jax.Array:
    """[B, H, W, C] -> [B, H / size, W / size, size * size * C]; the pixels of a patch become channels."""
    batch, height, width, channels = images.shape
    x = images.reshape(batch, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // size, width // size, -1)


def unfold_patches(x: jax.Array, size: int) -> jax.Array:
    """The inverse of `fold_patches`."""
    batch, height, width, _ = x.shape
    x = x.reshape(batch, height, width, size, size, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height * size, width * size, -1)
