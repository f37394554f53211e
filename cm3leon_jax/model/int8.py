"""Arrays of 8-bit integers with a scale for each row or column: half the bytes of bfloat16, for weights and caches.

Symmetric, rounded to the nearest: a number is `data` × its scale, and the largest of a group is ±127.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

_MOST = 127.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Int8:
    """`data` int8 and `scales` float32, of one length along one axis or more, else like `data`. Behaves as a weight of
    `model/layers.py` does: it is scaled, reshaped, and multiplied by `products.linear`."""

    data: Any
    scales: Any

    @classmethod
    def of(cls, x: jax.Array, axis: int) -> Int8:
        """The nearest to x, with one scale for all numbers along `axis`."""
        x = x.astype(jnp.float32)
        scales = jnp.maximum(jnp.abs(x).max(axis, keepdims=True), jnp.finfo(jnp.float32).tiny) / _MOST
        return cls(jnp.round(x / scales).astype(jnp.int8), scales)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def __getitem__(self, index: Any) -> Int8:
        """Of the first axis, or `...`."""
        return Int8(self.data[index], self.scales[index])

    def __mul__(self, number: float) -> Int8:
        return Int8(self.data, self.scales * number)

    def reshape(self, *shape: int) -> Int8:
        """A matrix [I, O], which has a scale for each column, with its first or its second axis split in two."""
        second = shape[0] == self.shape[0]
        scales = (1, *shape[1:]) if second else (1,) * (len(shape) - 1) + shape[-1:]
        return Int8(self.data.reshape(shape), self.scales.reshape(scales))

    def numbers(self, dtype: Any) -> jax.Array:
        """What it stands for."""
        return (self.data.astype(jnp.float32) * self.scales).astype(dtype)
