"""Causal attention in plain XLA: query blocks that skip what they must not see, with a backward pass of its own.

For CPUs above all. Scores are held keys-first, [B, H, M, Q] for M keys and a block of Q queries: reductions over keys
then run along whole vectors, and no product of the backward pass needs a transposed operand. The backward pass computes
the scores of a block again from the log-sum-exp of each query (FlashAttention), so nothing of size L² outlives a block.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from cm3leon_jax.model.products import moved
from cm3leon_jax.model.remat import named

_BHLK, _BHKL = (0, 2, 1, 3), (0, 2, 3, 1)  # from [B, L, H, K]
_MASKED = -1e30  # not -inf: a difference of two stays a number


def blocked_attention(
    q_BxLxHxK: jax.Array, k_BxLxHxK: jax.Array, v_BxLxHxK: jax.Array, segments_BxL: jax.Array | None = None
) -> jax.Array:
    """softmax(q kᵀ) v, causal, within segments: [B, L, H, K] in q's dtype."""
    return _attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, segments_BxL)


def _blocks(length: int) -> list[slice]:
    """Of the queries. Shorter blocks skip more of the upper half; too short ones make poor products."""
    size = min(max(-(-length // 4), 64), 256)
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _product(left: jax.Array, right: jax.Array, left_axis: int, right_axis: int) -> jax.Array:
    """For each of [B, H], a float32 product over the named axes (2 or 3)."""
    dimensions = (((left_axis,), (right_axis,)), ((0, 1), (0, 1)))
    return jax.lax.dot_general(left, right, dimensions, preferred_element_type=jnp.float32)


def _scores(k: jax.Array, q: jax.Array, segments_BxL: jax.Array | None, block: slice) -> jax.Array:
    """Scores of a block of queries against the keys up to its end, float32 [B, H, M, Q], masked."""
    keys, queries = jnp.arange(block.stop)[:, None], jnp.arange(block.start, block.stop)
    seen = (keys <= queries)[None, None]
    if segments_BxL is not None:
        same = segments_BxL[:, : block.stop, None] == segments_BxL[:, None, block]
        seen = seen & same[:, None]
    return jnp.where(seen, _product(k[:, :, : block.stop], q[:, :, block], 3, 3), _MASKED)


@jax.custom_vjp
def _attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array | None) -> jax.Array:
    return _forward(q, k, v, segments)[0]


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array | None) -> tuple[jax.Array, Any]:
    q_BxHxLxK, k_BxHxLxK = moved(q, _BHLK), moved(k, _BHLK)
    # A row of ones below the values: the weights are summed by the product that uses them, not in a pass of their own.
    v_BxHxK1xL = jnp.pad(moved(v, _BHKL), ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1)
    outputs, normalizers = [], []
    for block in _blocks(q.shape[1]):
        scores_BxHxMxQ = _scores(k_BxHxLxK, q_BxHxLxK, segments, block)
        highest = scores_BxHxMxQ.max(2, keepdims=True)
        weights_BxHxMxQ = jnp.exp(scores_BxHxMxQ - highest).astype(v.dtype)
        o_BxHxK1xQ = _product(v_BxHxK1xL[..., : block.stop], weights_BxHxMxQ, 3, 2)
        total = o_BxHxK1xQ[:, :, -1:]
        outputs.append(o_BxHxK1xQ[:, :, :-1] / total)
        normalizers.append(highest + jnp.log(total))
    o = named(jnp.concatenate(outputs, axis=3).transpose(0, 3, 1, 2).astype(q.dtype), "attention")
    return o, (q, k, v, segments, o, named(jnp.concatenate(normalizers, axis=3), "attention"))


def _backward(residuals: Any, do: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    q, k, v, segments, o, normalizers_BxHx1xL = residuals
    q_BxHxLxK, k_BxHxLxK, v_BxHxLxK, do_BxHxLxK = (moved(x, _BHLK) for x in (q, k, v, do))
    k_BxHxKxL = moved(k, _BHKL)
    # Σ over keys of weight × d weight = o · do: known without another pass over the scores.
    inner_BxHx1xL = (o.astype(jnp.float32) * do.astype(jnp.float32)).sum(-1).swapaxes(1, 2)[:, :, None]
    dq_blocks, dk_parts, dv_parts = [], [], []
    for block in _blocks(q.shape[1]):
        weights = jnp.exp(_scores(k_BxHxLxK, q_BxHxLxK, segments, block) - normalizers_BxHx1xL[..., block])
        dweights = _product(v_BxHxLxK[:, :, : block.stop], do_BxHxLxK[:, :, block], 3, 3)
        dscores_BxHxMxQ = (weights * (dweights - inner_BxHx1xL[..., block])).astype(q.dtype)
        dv_parts.append(_product(weights.astype(q.dtype), do_BxHxLxK[:, :, block], 3, 2))
        dk_parts.append(_product(dscores_BxHxMxQ, q_BxHxLxK[:, :, block], 3, 2))
        dq_blocks.append(_product(k_BxHxKxL[..., : block.stop], dscores_BxHxMxQ, 3, 2))
    dq = jnp.concatenate(dq_blocks, axis=3).transpose(0, 3, 1, 2)
    dk = _sum_over_blocks(dk_parts).swapaxes(1, 2)
    dv = _sum_over_blocks(dv_parts).swapaxes(1, 2)
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None


_attention.defvjp(_forward, _backward)


def _sum_over_blocks(parts_BxHxMxK: list[jax.Array]) -> jax.Array:
    """Adds parts that each begin at key 0 and end where their block ends."""
    length = parts_BxHxMxK[-1].shape[2]
    padded = (jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[2]), (0, 0))) for x in parts_BxHxMxK)
    return functools.reduce(jnp.add, padded)
