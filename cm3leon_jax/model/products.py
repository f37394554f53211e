"""Products with weights, and rows of tables, in the compute dtype.

The gradients of weights are accumulated and kept in float32. Without this, autodiff would multiply a bfloat16 by a
float32 operand, or round the weights' gradients to bfloat16.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from cm3leon_jax.model.int8 import Int8
from cm3leon_jax.model.partitioning import UNSPLIT, WeightLayout


def linear(x: jax.Array, weight: jax.Array | Int8, contracted: int = 1, layout: WeightLayout = UNSPLIT) -> jax.Array:
    """x times a weight over x's last `contracted` axes, which are the weight's first, in x's dtype.

    [B, L, D] × [D, F] -> [B, L, F]; [B, L, D] × [D, H, K] -> [B, L, H, K]; with `contracted` = 2, [B, L, H, K] ×
    [H, K, D] -> [B, L, D]. Accumulated in float32; the weight's gradient is float32. `layout` says how the weight is
    split over a mesh: it is gathered in x's dtype, and each device keeps its share of the gradient's sum. A weight in
    int8 has a scale for each output, by which the product is multiplied; it has no gradient.
    """
    if isinstance(weight, Int8):
        # As a matrix, which is how it is kept: in another shape XLA would copy it in every step of sampling.
        leading, outputs = x.shape[: x.ndim - contracted], weight.shape[contracted:]
        inputs = math.prod(weight.shape[:contracted])
        matrix_IxO = weight.data.reshape(inputs, -1).astype(x.dtype)
        product = _product(x.reshape(*leading, inputs), matrix_IxO, 1, 0, jnp.float32)
        return (product * weight.scales.reshape(-1)).astype(x.dtype).reshape(*leading, *outputs)
    return _linear(x, weight, contracted, layout)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _linear(x: jax.Array, weight: jax.Array, contracted: int, layout: WeightLayout) -> jax.Array:
    return _product(x, layout.gathered(weight.astype(x.dtype)), contracted, 0)


def _product(x: jax.Array, weight: jax.Array, contracted: int, first: int, dtype: Any = None) -> jax.Array:
    """Over x's last `contracted` axes and the weight's from `first` on, in `dtype`, or x's."""
    left, right = tuple(range(x.ndim - contracted, x.ndim)), tuple(range(first, first + contracted))
    product = jax.lax.dot_general(x, weight, ((left, right), ((), ())), preferred_element_type=jnp.float32)
    return product.astype(dtype or x.dtype)


def _linear_forward(
    x: jax.Array, weight: jax.Array, contracted: int, layout: WeightLayout
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _linear(x, weight, contracted, layout), (x, weight)


def _linear_backward(
    contracted: int, layout: WeightLayout, residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = residuals
    gradient = layout.summed_over_batch(functools.partial(weight_gradient, leading=x.ndim - contracted), x, g)
    if x.size != g.size:
        # One after the other: of the feed-forward's wide arrays, fewer are in memory at once.
        gradient, g = jax.lax.optimization_barrier((gradient, g))
    dx = _product(g, layout.gathered(weight.astype(g.dtype)), weight.ndim - contracted, contracted)
    return dx.astype(x.dtype), gradient.astype(weight.dtype)


_linear.defvjp(_linear_forward, _linear_backward)


def lookup(table: jax.Array | Int8, ids: jax.Array, dtype: Any, layout: WeightLayout = UNSPLIT) -> jax.Array:
    """Rows of a table [V, D], at ids [B, L] -> [B, L, D] in `dtype`; the table's gradient is float32. A table in int8
    has a scale for each row."""
    if isinstance(table, Int8):
        return table[ids].numbers(dtype)
    return _lookup(table, ids, dtype, layout)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _lookup(table: jax.Array, ids: jax.Array, dtype: Any, layout: WeightLayout) -> jax.Array:
    return layout.gathered(table.astype(dtype))[ids]


def _lookup_forward(
    table: jax.Array, ids: jax.Array, dtype: Any, layout: WeightLayout
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Nothing of the table is needed but its shape: an array without elements that has it.
    return _lookup(table, ids, dtype, layout), (ids, jnp.zeros((*table.shape, 0), table.dtype))


def _lookup_backward(
    dtype: Any, layout: WeightLayout, residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, None]:
    del dtype
    ids, shape = residuals

    def summed(ids: jax.Array, g: jax.Array) -> jax.Array:
        return jnp.zeros(shape.shape[:2], jnp.float32).at[ids].add(g.astype(jnp.float32))

    return layout.summed_over_batch(summed, ids, g).astype(shape.dtype), None


_lookup.defvjp(_lookup_forward, _lookup_backward)


def weight_gradient(x: jax.Array, g: jax.Array, leading: int) -> jax.Array:
    """xᵀ·g over the `leading` axes that both have: […, I], […, O] -> float32 [I, O]."""
    return jax.lax.platform_dependent(
        x,
        g,
        cpu=functools.partial(_weight_gradient_on_cpu, leading=leading),
        default=functools.partial(_weight_gradient, leading=leading),
    )


def _weight_gradient(x: jax.Array, g: jax.Array, leading: int) -> jax.Array:
    axes = tuple(range(leading))
    return jax.lax.dot_general(x, g, ((axes, axes), ((), ())), preferred_element_type=jnp.float32)


def _weight_gradient_on_cpu(x: jax.Array, g: jax.Array, leading: int) -> jax.Array:
    """XLA's CPU products are fast where the left operand is the narrow one and, in bfloat16, needs no transpose."""
    rows = math.prod(x.shape[:leading])
    gradient_IxO = _narrow_first(x.reshape(rows, -1), g.reshape(rows, -1))
    return gradient_IxO.reshape(*x.shape[leading:], *g.shape[leading:])


def _narrow_first(x_MxI: jax.Array, g_MxO: jax.Array) -> jax.Array:
    if x_MxI.shape[1] > g_MxO.shape[1]:
        # Behind a barrier: XLA would fold the transpose into the product, whose operands then lie the wrong way round.
        return jax.lax.optimization_barrier(_narrow_first(g_MxO, x_MxI)).T
    return jnp.dot(moved(x_MxI, (1, 0)), g_MxO, preferred_element_type=jnp.float32)


def moved(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """`x.transpose(axes)`; on a CPU a bfloat16 array is really moved in memory.

    XLA folds a transpose into the product that consumes it, and its CPU backend then converts both operands to float32,
    at twice the time. A transpose in two halves is not folded. The halves are those of the last axis, which is not
    split over devices.
    """
    half = x.shape[-1] // 2
    if half == 0 or x.dtype != jnp.bfloat16:
        return x.transpose(axes)
    return jax.lax.platform_dependent(
        x, cpu=lambda x: _moved_in_halves(x, half, axes), default=lambda x: x.transpose(axes)
    )


def _moved_in_halves(x: jax.Array, half: int, axes: tuple[int, ...]) -> jax.Array:
    halves = [x[..., :half].transpose(axes), x[..., half:].transpose(axes)]
    return jnp.concatenate(halves, axis=axes.index(x.ndim - 1))
