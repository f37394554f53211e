"""Splash attention, the Pallas kernel for TPU, for causal attention with segments."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from cm3leon_jax.model.partitioning import Partitioning

_LANES = 128  # the width of a TPU register: lengths are multiples of it
# Sizes of a tile: queries, keys, and keys multiplied at once. Large ones read less again, and the fused backward kernel
# computes the scores once for all three gradients.
_QUERIES, _KEYS, _KEYS_AT_ONCE = 1024, 1024, 512
SAVED_NAME = "attention"  # of what the backward kernel needs of the forward one: outputs and normalizers


def splash_attention(
    q_BxLxHxK: jax.Array,
    k_BxLxHxK: jax.Array,
    v_BxLxHxK: jax.Array,
    segments_BxL: jax.Array | None,
    partitioning: Partitioning,
    *,
    interpret: bool = False,
) -> jax.Array:
    """softmax(q kᵀ) v, causal, within segments: [B, L, H, K] in q's dtype. `interpret` runs it anywhere, slowly.

    L must be a multiple of 128. On a mesh, each device computes its own rows and heads.
    """
    length = q_BxLxHxK.shape[1]
    if length % _LANES:
        raise ValueError(f"splash attention needs lengths in multiples of {_LANES}, not {length}")
    if segments_BxL is None:
        segments_BxL = jnp.ones(q_BxLxHxK.shape[:2], jnp.int32)
    attend = functools.partial(_on_one_device, interpret=interpret)
    if partitioning.mesh is not None:
        heads = partitioning.rules.spec(("batch", None, "heads", None))
        attend = jax.shard_map(
            attend,
            mesh=partitioning.mesh,
            in_specs=(heads, heads, heads, partitioning.rules.spec(("batch", None))),
            out_specs=heads,
            check_vma=False,  # the kernel does not say how its outputs vary
        )
    return attend(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, segments_BxL)


def _on_one_device(q: jax.Array, k: jax.Array, v: jax.Array, segments_BxL: jax.Array, *, interpret: bool) -> jax.Array:
    _, length, heads, head_dim = q.shape
    queries, keys, at_once = (_fitting(size, length) for size in (_QUERIES, _KEYS, _KEYS_AT_ONCE))
    # Heads narrower than a register lie in memory with the positions along it, where nothing is padded.
    layout = splash.QKVLayout.SEQ_MINOR if head_dim < _LANES else splash.QKVLayout.HEAD_DIM_MINOR
    sizes = splash.BlockSizes(
        q_layout=layout, k_layout=layout, v_layout=layout,
        block_q=queries, block_kv=keys, block_kv_compute=at_once,
        block_q_dkv=queries, block_kv_dkv=keys, block_kv_dkv_compute=at_once, use_fused_bwd_kernel=True,
    )  # fmt: skip
    mask = masks.MultiHeadMask([masks.CausalMask((length, length))] * heads)
    kernel = splash.make_splash_mha(
        mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, residual_checkpoint_name=SAVED_NAME, interpret=interpret
    )
    q_BxHxLxK, k_BxHxLxK, v_BxHxLxK = (x.swapaxes(1, 2) for x in (q, k, v))
    segment_ids = splash.SegmentIds(segments_BxL, segments_BxL)
    return jax.vmap(kernel)(q_BxHxLxK, k_BxHxLxK, v_BxHxLxK, segment_ids).swapaxes(1, 2).astype(q.dtype)


def _fitting(size: int, length: int) -> int:
    """The largest power of two times 128, up to `size`, that divides `length`."""
    while length % size:
        size //= 2
    return size
