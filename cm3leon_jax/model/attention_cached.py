"""Attention over keys and values that are kept: a prompt's own, and those of a beginning that several rows share.

Each part gives a partial result, its softmax not normalised; they are merged by their maxima and sums (as blocks are in
FlashAttention, Dao et al. 2022). The keys of a shared beginning are read once for all rows that share it.

Letters in names: B rows, or groups of rows; Q queries of each, H heads, K head_dim, S slots.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cm3leon_jax.model.int8 import Int8

_MASKED = -1e30  # not -inf: a difference of two stays a number
_SUBLANES = 8  # rows of a register of a TPU
_QUERIES = 256  # of a prompt at a time: their scores are in memory at once


class Part(NamedTuple):
    """Keys and values of B groups; each group is read by the same number of rows, which follow each other. Scales of
    int8 are [B, H, 1, S]."""

    keys_BxHxSxK: jax.Array | Int8
    values_BxHxSxK: jax.Array | Int8


class Shared(NamedTuple):
    """What groups of rows have in common, and how many of its slots count, int32 [groups]."""

    part: Part
    lengths_G: jax.Array


class _Partial(NamedTuple):
    mixed_BxQxHxK: jax.Array  # float32, not divided by `total`
    highest_BxQxHx1: jax.Array
    total_BxQxHx1: jax.Array


def cached_attention(q_BxQxHxK: jax.Array, own: Part, seen_BxQxS: jax.Array, shared: Shared | None = None) -> jax.Array:
    """softmax(q kᵀ) v over the slots of `own` that are seen (bool [B, Q or 1, S]), and over what the row's group has in
    `shared`: [B, Q, H, K] in q's dtype. The queries come scaled."""
    parts = [_partial(q_BxQxHxK, own, seen_BxQxS)]
    if shared is not None:
        rows, queries, heads, head_dim = q_BxQxHxK.shape
        slots = jnp.arange(shared.part.keys_BxHxSxK.shape[2])
        seen_Gx1xS = (slots < shared.lengths_G[:, None])[:, None]
        grouped = q_BxQxHxK.reshape(len(shared.lengths_G), -1, heads, head_dim)
        found = _partial(grouped, shared.part, seen_Gx1xS)
        parts.append(_Partial(*(x.reshape(rows, queries, heads, -1) for x in found)))
    return _merged(parts).astype(q_BxQxHxK.dtype)


def prompt_attention(q_BxPxHxK: jax.Array, k_BxPxHxK: jax.Array, v_BxPxHxK: jax.Array, shared: Shared) -> jax.Array:
    """Causal attention of prompts [B, P, H, K] that stand behind shared beginnings: [B, P, H, K] in q's dtype."""
    length = q_BxPxHxK.shape[1]
    keys, values = k_BxPxHxK.swapaxes(1, 2), v_BxPxHxK.swapaxes(1, 2)
    outputs = []
    for start in range(0, length, _QUERIES):
        stop = min(start + _QUERIES, length)
        seen_1xQxS = (jnp.arange(stop) <= jnp.arange(start, stop)[:, None])[None]
        own = Part(keys[:, :, :stop], values[:, :, :stop])
        outputs.append(cached_attention(q_BxPxHxK[:, start:stop], own, seen_1xQxS, shared))
    return jnp.concatenate(outputs, axis=1)


def _partial(q_BxQxHxK: jax.Array, part: Part, seen_BxQxS: jax.Array) -> _Partial:
    if q_BxQxHxK.shape[1] > 1:
        return _partial_of_any(q_BxQxHxK, part, seen_BxQxS)
    return jax.lax.platform_dependent(q_BxQxHxK, part, seen_BxQxS, tpu=_partial_of_one_on_tpu, default=_partial_of_any)


def _partial_of_one_on_tpu(q_Bx1xHxK: jax.Array, part: Part, seen_Bx1xS: jax.Array) -> _Partial:
    """With as many queries as a register has rows. A product with one alone XLA takes from the matrix unit to the
    vector unit, where it takes fifteen times as long (by the compiler's estimates)."""
    q_Bx8xHxK = jnp.pad(q_Bx1xHxK, ((0, 0), (0, _SUBLANES - 1), (0, 0), (0, 0)))
    return _Partial(*(x[:, :1] for x in _partial_of_any(q_Bx8xHxK, part, seen_Bx1xS)))


def _partial_of_any(q_BxQxHxK: jax.Array, part: Part, seen_BxQxS: jax.Array) -> _Partial:
    keys, values = part
    if isinstance(keys, Int8):
        q_BxHxQxK = q_BxQxHxK.swapaxes(1, 2)
        scores_BxHxQxS = _scores(q_BxHxQxK, keys.data) * keys.scales
    else:
        q_BxHxQxK = q_BxQxHxK.swapaxes(1, 2).astype(keys.dtype)
        scores_BxHxQxS = _scores(q_BxHxQxK, keys)
    scores_BxHxQxS = jnp.where(seen_BxQxS[:, None], scores_BxHxQxS, _MASKED)
    highest_BxHxQx1 = scores_BxHxQxS.max(-1, keepdims=True)
    weights_BxHxQxS = jnp.exp(scores_BxHxQxS - highest_BxHxQx1)
    total_BxHxQx1 = weights_BxHxQxS.sum(-1, keepdims=True)
    if isinstance(values, Int8):
        weights_BxHxQxS, values = weights_BxHxQxS * values.scales, values.data.astype(q_BxQxHxK.dtype)
    mixed_BxHxQxK = jnp.einsum(
        "bhqs,bhsk->bhqk", weights_BxHxQxS.astype(values.dtype), values, preferred_element_type=jnp.float32
    )
    return _Partial(*(x.swapaxes(1, 2) for x in (mixed_BxHxQxK, highest_BxHxQx1, total_BxHxQx1)))


def _scores(q_BxHxQxK: jax.Array, keys_BxHxSxK: jax.Array) -> jax.Array:
    keys_BxHxSxK = keys_BxHxSxK.astype(q_BxHxQxK.dtype)
    return jnp.einsum("bhqk,bhsk->bhqs", q_BxHxQxK, keys_BxHxSxK, preferred_element_type=jnp.float32)


def _merged(parts: list[_Partial]) -> jax.Array:
    first, *others = parts
    if not others:
        return first.mixed_BxQxHxK / first.total_BxQxHx1
    highest = jnp.max(jnp.stack([part.highest_BxQxHx1 for part in parts]), axis=0)
    mixed, total = jnp.zeros_like(first.mixed_BxQxHxK), jnp.zeros_like(highest)
    for part in parts:
        weight = jnp.exp(part.highest_BxQxHx1 - highest)
        mixed, total = mixed + part.mixed_BxQxHxK * weight, total + part.total_BxQxHx1 * weight
    return mixed / total
