"""The backward pass of causal attention with segments: one Pallas kernel for TPU that makes all three gradients.

With p = exp(q kᵀ - lse) where a query sees a key and 0 elsewhere, and di = Σ o·do:

    dv = pᵀ do    ds = p (do vᵀ - di)    dk = dsᵀ q    dq = ds k

Scores lie keys first, [keys, queries], so that what belongs to a query (lse, di, its segment) is a row along the lanes,
and that no product needs a matrix of scores transposed. Letters in names are axes: B batch, H heads, L queries, M keys,
K head_dim, N blocks, T tiles, X one of [L or M, K] and [K, L or M].
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES, _SUBLANES = 128, 8  # the width and the height of a TPU register
KERNEL_NAME = "causal_attention_backward"
# Queries and keys of a tile; keys of it multiplied at once. Small ones skip more of the masked half on the diagonal.
_BLOCK, _AT_ONCE = 1024, 256
_QUERY_GRADIENT_BYTES = 4 * 2**20  # what of the chip's memory the gradient of a head's queries may take


def fits(length: int, head_dim: int) -> bool:
    """Whether the kernel finds room: up to 8,192 positions of heads that are 128 wide, more of narrower ones."""
    return 4 * length * head_dim <= _QUERY_GRADIENT_BYTES


def fitting(size: int, length: int) -> int:
    """The largest power of two times 128, up to `size`, that divides `length`."""
    while length % size:
        size //= 2
    return size


def attention_gradients(
    q_BxHxLxK: jax.Array,
    k_BxHxLxK: jax.Array,
    v_BxHxLxK: jax.Array,
    do_BxHxLxK: jax.Array,
    lse_BxHxL: jax.Array,
    di_BxHxL: jax.Array,
    segments_BxL: jax.Array,
    *,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(dq, dk, dv), each [B, H, L, K] in q's dtype. `lse` and `di` are float32; L is a multiple of 128.

    A head at a time, the grid walks through the tiles on and below the diagonal: key block by key block, and for each
    from the query block on the diagonal down. So dk and dv are sums over consecutive tiles. dq of all query blocks
    waits on the chip in float32; that of a block has seen all of its keys once the walk comes to the diagonal.
    """
    batch, heads, length, head_dim = q_BxHxLxK.shape
    block = fitting(_BLOCK, length)
    blocks = length // block
    # Heads narrower than a register lie in memory with the positions along it, where nothing is padded.
    narrow = head_dim < LANES
    block_of_heads = (head_dim, block) if narrow else (block, head_dim)
    # Numbers of the key and the query block of each tile, which the index maps read.
    keys_T, queries_T = (numbers.astype(np.int32) for numbers in np.triu_indices(blocks))

    def of_heads(queries: bool) -> pl.BlockSpec:
        def index(b: Any, h: Any, t: Any, keys_T: Any, queries_T: Any) -> tuple:
            number = queries_T[t] if queries else keys_T[t]
            return (b, h, 0, number) if narrow else (b, h, number, 0)

        return pl.BlockSpec((None, None, *block_of_heads), index)

    row = pl.BlockSpec((None, None, _SUBLANES, block), lambda b, h, t, keys_T, queries_T: (b, h, 0, queries_T[t]))
    query_segments = pl.BlockSpec((None, 1, block), lambda b, h, t, keys_T, queries_T: (b, 0, queries_T[t]))
    key_segments = pl.BlockSpec((None, 1, block), lambda b, h, t, keys_T, queries_T: (b, 0, keys_T[t]))
    q, k, v, do = (x.swapaxes(2, 3) if narrow else x for x in (q_BxHxLxK, k_BxHxLxK, v_BxHxLxK, do_BxHxLxK))
    turned = pltpu.VMEM(block_of_heads[::-1], q.dtype)
    kernel = pl.pallas_call(
        functools.partial(_kernel, blocks=blocks, at_once=fitting(_AT_ONCE, block), narrow=narrow),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(batch, heads, len(keys_T)),
            in_specs=[
                of_heads(queries=True), of_heads(queries=False), of_heads(queries=False), of_heads(queries=True),
                row, row, query_segments, key_segments,
            ],
            out_specs=[of_heads(queries=False)] * 3,  # dq too: it is written on the diagonal
            scratch_shapes=[
                pltpu.VMEM((blocks, head_dim, block), jnp.float32),
                pltpu.VMEM(block_of_heads, jnp.float32),
                pltpu.VMEM(block_of_heads, jnp.float32),
                pltpu.VMEM((block, LANES), jnp.int32),
                turned, *([turned] if narrow else []),
            ],
        ),
        out_shape=[jax.ShapeDtypeStruct(q.shape, q.dtype)] * 3,
        # Heads do not depend on each other: a chip of two cores splits them.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        name=KERNEL_NAME,
        interpret=interpret,
    )  # fmt: skip
    # Repeated as often as a register is high: to bring a single row into its layout, XLA would copy all of what the
    # forward kernel writes, in which lse takes 128 lanes.
    rows = (batch, heads, _SUBLANES, length)
    lse_BxHx8xL, di_BxHx8xL = (jnp.broadcast_to(x_BxHxL[:, :, None], rows) for x_BxHxL in (lse_BxHxL, di_BxHxL))
    segments_Bx1xL = segments_BxL[:, None]
    gradients = kernel(keys_T, queries_T, q, k, v, do, lse_BxHx8xL, di_BxHx8xL, segments_Bx1xL, segments_Bx1xL)
    dq, dk, dv = (x.swapaxes(2, 3) if narrow else x for x in gradients)
    return dq, dk, dv


def _kernel(
    keys_T: Any, queries_T: Any,
    q_X: Any, k_X: Any, v_X: Any, do_X: Any, lse_8xL: Any, di_8xL: Any, query_segments_1xL: Any, key_segments_1xM: Any,
    dq_X: Any, dk_X: Any, dv_X: Any,
    dq_sum_NxKxL: Any, dk_sum_X: Any, dv_sum_X: Any, key_segments_MxLANES: Any, k_turned: Any, *v_turned: Any,
    blocks: int, at_once: int, narrow: bool,
) -> None:  # fmt: skip
    """One tile. X is [K, positions] where heads are `narrow`, else [positions, K]."""
    tile = pl.program_id(2)
    key_block, query_block = keys_T[tile], queries_T[tile]
    block = lse_8xL.shape[1]
    axis_K = 0 if narrow else 1  # in X
    k_MxK, v_MxK, k_KxM = (k_turned, *v_turned, k_X) if narrow else (k_X, v_X, k_turned)

    def at(positions: Any) -> tuple:
        return (slice(None), positions) if narrow else (positions, slice(None))

    def weighted_sum(weights_MxL: jax.Array, x_X: jax.Array) -> jax.Array:
        # The matrix unit holds one operand, here the one that fills it, and takes time for each row of the other.
        return _product(x_X, weights_MxL, 1, 1) if narrow else _product(weights_MxL, x_X, 1, 0)

    def accumulate(diagonal: bool) -> None:
        for start in range(0, block, at_once):
            # On the diagonal, no query before the first of these keys sees one of them.
            first = start if diagonal else 0
            keys, queries = pl.ds(start, at_once), pl.ds(first, block - first)
            q, do = q_X[at(queries)], do_X[at(queries)]
            s_MxL = _product(k_MxK[keys, :], q, 1, axis_K)
            seen_MxL = key_segments_MxLANES[keys, :1] == query_segments_1xL[:, queries]
            if diagonal:
                key, query = (jax.lax.broadcasted_iota(jnp.int32, s_MxL.shape, axis) for axis in (0, 1))
                seen_MxL = seen_MxL & (key <= query)
            p_MxL = jnp.where(seen_MxL, jnp.exp(s_MxL - lse_8xL[:1, queries]), 0.0)
            dv_sum_X[at(keys)] += weighted_sum(p_MxL.astype(do.dtype), do)
            dp_MxL = _product(v_MxK[keys, :], do, 1, axis_K)
            ds_MxL = (p_MxL * (dp_MxL - di_8xL[:1, queries])).astype(q.dtype)
            dk_sum_X[at(keys)] += weighted_sum(ds_MxL, q)
            dq_sum_NxKxL[query_block, :, queries] += _product(k_KxM[:, keys], ds_MxL, 1, 0)

    @pl.when(key_block == 0)
    def _() -> None:
        dq_sum_NxKxL[query_block] = jnp.zeros(dq_sum_NxKxL.shape[1:], jnp.float32)

    @pl.when(key_block == query_block)
    def _() -> None:
        dk_sum_X[...] = jnp.zeros_like(dk_sum_X)
        dv_sum_X[...] = jnp.zeros_like(dv_sum_X)
        # Once for each block of keys: what the tiles need the other way round.
        key_segments_MxLANES[...] = jnp.broadcast_to(key_segments_1xM[...], (LANES, block)).T
        for turned, x_X in zip((k_turned, *v_turned), (k_X, v_X), strict=False):
            turned[...] = x_X[...].T
        accumulate(diagonal=True)
        dq_KxL = dq_sum_NxKxL[query_block]
        dq_X[...] = (dq_KxL if narrow else dq_KxL.T).astype(dq_X.dtype)

    @pl.when(key_block < query_block)
    def _() -> None:
        accumulate(diagonal=False)

    @pl.when(query_block == blocks - 1)
    def _() -> None:
        dk_X[...] = dk_sum_X[...].astype(dk_X.dtype)
        dv_X[...] = dv_sum_X[...].astype(dv_X.dtype)


def _product(x: Any, y: Any, x_axis: int, y_axis: int) -> jax.Array:
    """Of two matrices, over one axis of each, in float32."""
    return jax.lax.dot_general(x, y, (((x_axis,), (y_axis,)), ((), ())), preferred_element_type=jnp.float32)
