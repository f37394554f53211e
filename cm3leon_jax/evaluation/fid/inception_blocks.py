"""The blocks of Inception-v3 (Szegedy et al. 2016, §6) as FID's network has them, which was converted from TensorFlow:
average pooling counts no padding, and the last block pools by the maximum.

Attributes have the names of torchvision's modules, as the published weights have them. Feature maps are [B, H, W, C].
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx


class Unit(nnx.Module):
    """Convolution with bias and ReLU; the bias holds what is left of the BatchNorm (inception_weights.py).

    Products are in full float32 on all hardware, since others would give another FID.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        *,
        rngs: nnx.Rngs,
        stride: int = 1,
        padding: str = "SAME",
    ):
        self.conv = nnx.Conv(
            inputs,
            outputs,
            kernel,
            strides=(stride, stride),
            padding=padding,
            precision=jax.lax.Precision.HIGHEST,
            kernel_init=nnx.initializers.zeros_init(),
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.conv(x))


def average_pool(x: jax.Array) -> jax.Array:
    """The mean over 3×3 places, of those that lie inside the map."""
    return nnx.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def max_pool(x: jax.Array) -> jax.Array:
    return nnx.max_pool(x, (3, 3), padding="SAME")


def halve(x: jax.Array) -> jax.Array:
    """The maximum over 3×3 places, of every second one."""
    return nnx.max_pool(x, (3, 3), strides=(2, 2), padding="VALID")


class BlockA(nnx.Module):
    """At 35×35."""

    def __init__(self, inputs: int, pooled: int, rngs: nnx.Rngs):
        unit = functools.partial(Unit, rngs=rngs)
        self.branch1x1 = unit(inputs, 64, (1, 1))
        self.branch5x5_1 = unit(inputs, 48, (1, 1))
        self.branch5x5_2 = unit(48, 64, (5, 5))
        self.branch3x3dbl_1 = unit(inputs, 64, (1, 1))
        self.branch3x3dbl_2 = unit(64, 96, (3, 3))
        self.branch3x3dbl_3 = unit(96, 96, (3, 3))
        self.branch_pool = unit(inputs, pooled, (1, 1))

    def __call__(self, x: jax.Array) -> jax.Array:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return _joined(self.branch1x1(x), five, three, self.branch_pool(average_pool(x)))


class BlockB(nnx.Module):
    """From 35×35 to 17×17."""

    def __init__(self, inputs: int, rngs: nnx.Rngs):
        unit = functools.partial(Unit, rngs=rngs)
        self.branch3x3 = unit(inputs, 384, (3, 3), stride=2, padding="VALID")
        self.branch3x3dbl_1 = unit(inputs, 64, (1, 1))
        self.branch3x3dbl_2 = unit(64, 96, (3, 3))
        self.branch3x3dbl_3 = unit(96, 96, (3, 3), stride=2, padding="VALID")

    def __call__(self, x: jax.Array) -> jax.Array:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return _joined(self.branch3x3(x), double, halve(x))


class BlockC(nnx.Module):
    """At 17×17; 7×7 filters as products of a row and a column."""

    def __init__(self, inputs: int, inner: int, rngs: nnx.Rngs):
        unit = functools.partial(Unit, rngs=rngs)
        row, column = (1, 7), (7, 1)
        self.branch1x1 = unit(inputs, 192, (1, 1))
        self.branch7x7_1 = unit(inputs, inner, (1, 1))
        self.branch7x7_2 = unit(inner, inner, row)
        self.branch7x7_3 = unit(inner, 192, column)
        self.branch7x7dbl_1 = unit(inputs, inner, (1, 1))
        self.branch7x7dbl_2 = unit(inner, inner, column)
        self.branch7x7dbl_3 = unit(inner, inner, row)
        self.branch7x7dbl_4 = unit(inner, inner, column)
        self.branch7x7dbl_5 = unit(inner, 192, row)
        self.branch_pool = unit(inputs, 192, (1, 1))

    def __call__(self, x: jax.Array) -> jax.Array:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return _joined(self.branch1x1(x), single, double, self.branch_pool(average_pool(x)))


class BlockD(nnx.Module):
    """From 17×17 to 8×8."""

    def __init__(self, inputs: int, rngs: nnx.Rngs):
        unit = functools.partial(Unit, rngs=rngs)
        self.branch3x3_1 = unit(inputs, 192, (1, 1))
        self.branch3x3_2 = unit(192, 320, (3, 3), stride=2, padding="VALID")
        self.branch7x7x3_1 = unit(inputs, 192, (1, 1))
        self.branch7x7x3_2 = unit(192, 192, (1, 7))
        self.branch7x7x3_3 = unit(192, 192, (7, 1))
        self.branch7x7x3_4 = unit(192, 192, (3, 3), stride=2, padding="VALID")

    def __call__(self, x: jax.Array) -> jax.Array:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return _joined(self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(seven), halve(x))


class BlockE(nnx.Module):
    """At 8×8. `pool`: `average_pool` in the first of the two, `max_pool` in the second."""

    def __init__(self, inputs: int, pool: Callable[[jax.Array], jax.Array], rngs: nnx.Rngs):
        unit = functools.partial(Unit, rngs=rngs)
        self.pool = pool
        self.branch1x1 = unit(inputs, 320, (1, 1))
        self.branch3x3_1 = unit(inputs, 384, (1, 1))
        self.branch3x3_2a = unit(384, 384, (1, 3))
        self.branch3x3_2b = unit(384, 384, (3, 1))
        self.branch3x3dbl_1 = unit(inputs, 448, (1, 1))
        self.branch3x3dbl_2 = unit(448, 384, (3, 3))
        self.branch3x3dbl_3a = unit(384, 384, (1, 3))
        self.branch3x3dbl_3b = unit(384, 384, (3, 1))
        self.branch_pool = unit(inputs, 192, (1, 1))

    def __call__(self, x: jax.Array) -> jax.Array:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return _joined(
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        )


def _joined(*branches: jax.Array) -> jax.Array:
    return jnp.concatenate(branches, axis=-1)
