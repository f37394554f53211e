"""Matrix products in the compute dtype; the gradients of weights are accumulated and kept in float32.

Without this, autodiff would multiply a bfloat16 by a float32 operand, or round the weights' gradients to bfloat16.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_vjp
def linear(x: jax.Array, weight_IxO: jax.Array) -> jax.Array:
    """x […, I] times a float32 weight, in x's dtype, accumulated in float32; the weight's gradient is float32."""
    return jnp.dot(x, weight_IxO.astype(x.dtype), preferred_element_type=jnp.float32).astype(x.dtype)


def _linear_forward(x: jax.Array, weight_IxO: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return linear(x, weight_IxO), (x, weight_IxO)


def _linear_backward(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight_IxO = residuals
    dx = jnp.einsum("...o,io->...i", g, weight_IxO.astype(g.dtype), preferred_element_type=jnp.float32)
    return dx.astype(x.dtype), weight_gradient(x, g).astype(weight_IxO.dtype)


linear.defvjp(_linear_forward, _linear_backward)


def weight_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """xᵀ·g over all leading axes: […, I], […, O] -> float32 [I, O]."""
    return jax.lax.platform_dependent(x, g, cpu=_weight_gradient_on_cpu, default=_weight_gradient)


def _weight_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    leading = tuple(range(x.ndim - 1))
    return jax.lax.dot_general(x, g, ((leading, leading), ((), ())), preferred_element_type=jnp.float32)


def _weight_gradient_on_cpu(x: jax.Array, g: jax.Array) -> jax.Array:
    """XLA's CPU products are fast where the left operand is the narrow one and, in bfloat16, needs no transpose."""
    x_MxI, g_MxO = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    if x_MxI.shape[1] > g_MxO.shape[1]:
        return _weight_gradient_on_cpu(g_MxO, x_MxI).T
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
