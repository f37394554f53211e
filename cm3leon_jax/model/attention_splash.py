"""Splash attention, the Pallas kernel for TPU, for causal attention with segments."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from cm3leon_jax.model.attention_backward import LANES, attention_gradients, fits, fitting
from cm3leon_jax.model.partitioning import Partitioning
from cm3leon_jax.model.remat import named

# Sizes of a tile: queries, keys, and keys multiplied at once. Large ones read less again.
_QUERIES, _KEYS, _KEYS_AT_ONCE = 1024, 1024, 512
SAVED_NAME = "attention"  # of what the backward kernel needs of the forward one: output and normalizers (`remat.py`)


def splash_attention(
    q_BxLxHxK: jax.Array,
    k_BxLxHxK: jax.Array,
    v_BxLxHxK: jax.Array,
    segments_BxL: jax.Array | None,
    partitioning: Partitioning,
    *,
    own_backward: bool = True,
    interpret: bool = False,
) -> jax.Array:
    """softmax(q kᵀ) v, causal, within segments: [B, L, H, K] in q's dtype. `interpret` runs it anywhere, slowly.

    The forward kernel is JAX's; the backward one too, unless it is to be our `own_backward`, and that has room. L must
    be a multiple of 128. On a mesh, each device computes its own rows and heads.
    """
    length = q_BxLxHxK.shape[1]
    if length % LANES:
        raise ValueError(f"splash attention needs lengths in multiples of {LANES}, not {length}")
    if segments_BxL is None:
        segments_BxL = jnp.ones(q_BxLxHxK.shape[:2], jnp.int32)
    attend = functools.partial(_on_one_device, own_backward=own_backward, interpret=interpret)
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


def _on_one_device(
    q: jax.Array, k: jax.Array, v: jax.Array, segments_BxL: jax.Array, *, own_backward: bool, interpret: bool
) -> jax.Array:
    q_BxHxLxK, k_BxHxLxK, v_BxHxLxK = (x.swapaxes(1, 2) for x in (q, k, v))
    attend = _attend if own_backward and fits(q.shape[1], q.shape[3]) else _library_attend
    return attend(q_BxHxLxK, k_BxHxLxK, v_BxHxLxK, segments_BxL, interpret).swapaxes(1, 2).astype(q.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, segments_BxL: jax.Array, interpret: bool) -> jax.Array:
    """[B, H, L, K]: the library's forward kernel; its backward pass is `attention_backward.py`."""
    return _library_attend(q, k, v, segments_BxL, interpret)


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, segments_BxL: jax.Array, interpret: bool) -> tuple:
    o_BxHxLxK, (lse_BxHxL,) = _library_attend(q, k, v, segments_BxL, interpret, save_residuals=True)
    # Named here: names inside of the library's function are lost on the way through this one's own rule.
    o_BxHxLxK, lse_BxHxL = (named(x, SAVED_NAME) for x in (o_BxHxLxK, lse_BxHxL))
    return o_BxHxLxK, (q, k, v, o_BxHxLxK, lse_BxHxL, segments_BxL)


def _backward(interpret: bool, residuals: tuple, do_BxHxLxK: jax.Array) -> tuple:
    q, k, v, o_BxHxLxK, lse_BxHxL, segments_BxL = residuals
    di_BxHxL = jnp.sum(o_BxHxLxK.astype(jnp.float32) * do_BxHxLxK.astype(jnp.float32), axis=-1)
    gradients = attention_gradients(q, k, v, do_BxHxLxK, lse_BxHxL, di_BxHxL, segments_BxL, interpret=interpret)
    return *gradients, None


_attend.defvjp(_forward, _backward)


def _library_attend(
    q: jax.Array, k: jax.Array, v: jax.Array, segments_BxL: jax.Array, interpret: bool, save_residuals: bool = False
) -> Any:
    """[B, H, L, K] and, with `save_residuals`, ([B, H, L],): the logarithms of the sums that it was divided by.

    Without them it has a backward pass of its own, for which no length is too long. That one writes the gradient of the
    queries once for each block of keys, and sums that in another pass over the memory.
    """
    _, heads, length, head_dim = q.shape
    queries, keys, at_once = (fitting(size, length) for size in (_QUERIES, _KEYS, _KEYS_AT_ONCE))
    # Heads narrower than a register lie in memory with the positions along it, where nothing is padded.
    layout = splash.QKVLayout.SEQ_MINOR if head_dim < LANES else splash.QKVLayout.HEAD_DIM_MINOR
    sizes = splash.BlockSizes(
        q_layout=layout, k_layout=layout, v_layout=layout,
        block_q=queries, block_kv=keys, block_kv_compute=at_once,
        block_q_dkv=queries, block_kv_dkv=keys, block_kv_dkv_compute=at_once, use_fused_bwd_kernel=True,
    )  # fmt: skip
    kernel = splash.make_splash_mha(
        masks.MultiHeadMask([masks.CausalMask((length, length))] * heads),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        save_residuals=save_residuals,
        residual_checkpoint_name=None if save_residuals else SAVED_NAME,
        interpret=interpret,
    )
    return jax.vmap(kernel)(q, k, v, splash.SegmentIds(segments_BxL, segments_BxL))
