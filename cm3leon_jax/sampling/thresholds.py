"""Thresholds of rows: found by bisection over the float32 numbers themselves.

Exact, 32 fused compare-and-sum passes over the row, and no sort. Floats are compared as integers of the same order, so
that 32 halvings end at exactly one of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_FEW = 64  # of the largest values: as many as CD-K's k is in practice, and more


def smallest_set(values: jax.Array, weights: jax.Array, target: jax.Array | float) -> jax.Array:
    """The smallest set {values >= t} with Σ weights >= target, row by row; everything where even all do not reach it.

    values, weights float32 [B, V], weights >= 0, target > 0 -> bool [B, V]. Equal values are in or out together, so the
    set does not depend on how tokens are numbered.
    """
    order = ordered_bits(values)

    def reached(middle: jax.Array, inside: jax.Array) -> tuple[jax.Array, jax.Array]:
        above = order >= middle
        enough = jnp.sum(jnp.where(above, weights, 0), axis=-1, keepdims=True) >= target
        # The set is kept here, not compared again outside: XLA may compute `values` twice and round them differently.
        return enough, jnp.where(enough, above, inside)

    return bisect(reached, (len(values), 1), jnp.ones_like(order, bool))[1]


def kth_largest(values: jax.Array, k: jax.Array | int) -> jax.Array:
    """The k-th largest of each row, equal values counted each: float32 [B, V] -> [B, 1]; the least where k > V. One k
    for all rows, or [B, 1]."""
    k = jnp.minimum(k, values.shape[1])
    return lax.platform_dependent(values, k, cpu=_kth_of_few, default=_kth_by_bisection)


def _kth_by_bisection(values: jax.Array, k: jax.Array) -> jax.Array:
    order = ordered_bits(values)

    def reached(middle: jax.Array, _: None) -> tuple[jax.Array, None]:
        # Summed as float32, which CPUs do faster: exact, as no row has 2**24 values.
        return jnp.sum((order >= middle).astype(jnp.float32), axis=-1, keepdims=True) >= k, None

    return from_ordered_bits(bisect(reached, (len(values), 1))[0])


def _kth_of_few(values: jax.Array, k: jax.Array) -> jax.Array:
    """As `_kth_by_bisection`. A CPU selects the largest few of a row in one pass over it."""
    few = min(_FEW, values.shape[1])

    def select() -> jax.Array:
        largest_BxF = lax.top_k(values, few)[0]
        # Not sliced: of a slice of the selection, XLA makes a slice of a sorted row.
        return jnp.min(jnp.where(jnp.arange(few) < k, largest_BxF, jnp.inf), axis=-1, keepdims=True)

    return lax.cond(jnp.all(k <= few), select, lambda: _kth_by_bisection(values, k))


def bisect(reached: Callable, shape: tuple[int, ...], state: Any = None) -> tuple[jax.Array, Any]:
    """-> the bits (`ordered_bits`) of the largest float32 that is `reached`, int32 of that shape, and the last state.

    `reached(bits, state)` -> (bool of that shape, state), true up to some number and false from there on. Where it is
    true of nothing, the bits are those of -inf.
    """
    low = jnp.full(shape, ordered_bits(jnp.float32(-jnp.inf)))  # reached, or nothing is
    high = jnp.full(shape, ordered_bits(jnp.float32(jnp.inf)))  # not reached

    def halve(_: Any, carry: tuple) -> tuple:
        low, high, state = carry
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, rounded down, without overflow
        enough, state = reached(middle, state)
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle), state

    low, _, state = lax.fori_loop(0, 32, halve, (low, high, state))
    return low, state


def ordered_bits(values: jax.Array) -> jax.Array:
    """float32 -> int32 in the same order (-0 equals 0)."""
    bits = lax.bitcast_convert_type(jnp.where(values == 0, 0.0, values), jnp.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def from_ordered_bits(bits: jax.Array) -> jax.Array:
    """The float32 of `ordered_bits`."""
    return lax.bitcast_convert_type(bits ^ ((bits >> 31) & 0x7FFFFFFF), jnp.float32)
