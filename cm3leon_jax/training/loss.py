"""Cross entropy over a large vocabulary without ever holding all logits.

The logits of a few positions at a time are made, turned into the loss and at once into gradients, and dropped: nothing
of size [B, L, V] exists, and no logits are computed twice. They are held vocabulary-first, [V, B, l], so that sums over
the vocabulary run along whole vectors and no product needs a large transposed operand (XLA on the CPU).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning, WeightLayout


def cross_entropy(
    hidden_BxLxD: jax.Array,
    table_VxD: jax.Array,
    targets_BxL: jax.Array,
    weights_BxL: jax.Array,
    *,
    z_loss: float = 0.0,
    chunk: int = 128,
    partitioning: Partitioning = UNPARTITIONED,
) -> tuple[jax.Array, jax.Array]:
    """-> (Σ weight × (nll + z_loss × logsumexp²), nll [B, L]), float32, in nats.

    `table_VxD` is the output projection. `chunk` positions of each row have their logits in memory at once. Only the
    sum is differentiable, and only in `hidden` and `table`; the single losses are there to be reported.
    """
    length = hidden_BxLxD.shape[1]
    # Two chunks at least: XLA on the CPU unrolls a loop of one, and then cannot multiply bfloat16 to float32 any more.
    chunk = min(chunk, -(-length // 2))
    short = -length % chunk
    hidden, targets, weights = (
        jnp.pad(x, ((0, 0), (0, short), *((0, 0),) * (x.ndim - 2))) for x in (hidden_BxLxD, targets_BxL, weights_BxL)
    )
    layout = WeightLayout(partitioning, ("vocab", "embed"))
    total, nll_BxL = _cross_entropy(hidden, table_VxD, targets, weights, z_loss, chunk, layout)
    return total, nll_BxL[:, :length]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _cross_entropy(hidden, table, targets, weights, z_loss, chunk, layout):
    losses = functools.partial(_losses, z_loss=z_loss, chunk=chunk)
    table_VxD = layout.gathered(table.astype(hidden.dtype))
    total, nll_BxL = _on_own_rows(losses, layout, ("rows", "rows"))(hidden, table_VxD, targets, weights)
    return total.sum(), nll_BxL


def _forward(hidden, table, targets, weights, z_loss, chunk, layout):
    def losses_and_gradients(*arrays):
        totals, nll_BxL, dhidden, dtable_VxD = _losses_and_gradients(*arrays, z_loss=z_loss, chunk=chunk)
        # Devices add up once, not once a chunk.
        return totals, nll_BxL, dhidden, layout.scattered_sum(dtable_VxD)

    table_VxD = layout.gathered(table.astype(hidden.dtype))
    function = _on_own_rows(losses_and_gradients, layout, ("rows", "rows", "rows", "table"))
    total, nll_BxL, dhidden, dtable_VxD = function(hidden, table_VxD, targets, weights)
    # Behind a barrier: XLA would add the embedding's gradient before the sum over devices, and until then, all through
    # the backward pass, keep a whole table.
    dtable_VxD = jax.lax.optimization_barrier(dtable_VxD)
    return (total.sum(), nll_BxL), (dhidden, dtable_VxD.astype(table.dtype))


def _on_own_rows(function, layout, results):
    """`function(hidden, table, targets, weights)` of each device's own rows, with the whole table."""
    partitioning = layout.partitioning
    if partitioning.batch_shards == 1:
        return function
    rows = partitioning.rules.spec(("batch",))
    return jax.shard_map(
        function,
        mesh=partitioning.mesh,
        axis_names=set(partitioning.batch_axes),
        in_specs=(rows, PartitionSpec(), rows, rows),
        out_specs=tuple({"rows": rows, "table": layout.shares}[result] for result in results),
        check_vma=False,
    )


def _losses(hidden, table_VxD, targets, weights, *, z_loss: float, chunk: int):
    """-> (weighted sum [1], nll [B, L])."""

    def body(total, start):
        h_BxlxD, target_Bxl, weight_Bxl = _chunk_of(start, chunk, hidden, targets, weights)
        nll_Bxl, normalizer_Bxl, _, _ = _chunk_loss(h_BxlxD, target_Bxl, table_VxD)
        return total + _weighted(nll_Bxl, normalizer_Bxl, weight_Bxl, z_loss), nll_Bxl

    total, nll_CxBxl = jax.lax.scan(body, jnp.zeros((), jnp.float32), _starts(targets, chunk))
    return total[None], _joined(nll_CxBxl)


def _losses_and_gradients(hidden, table_VxD, targets, weights, *, z_loss: float, chunk: int):
    """-> (weighted sum [1], nll [B, L], its gradients: of hidden [B, L, D], of the table float32 [V, D])."""
    table_DxV = table_VxD.T  # moved once, outside of the loop

    def body(carry, start):
        total, dtable_VxD = carry
        h_BxlxD, target_Bxl, weight_Bxl = _chunk_of(start, chunk, hidden, targets, weights)
        nll_Bxl, normalizer_Bxl, unnormalized_VxBxl, sum_Bxl = _chunk_loss(h_BxlxD, target_Bxl, table_VxD)
        # d/dlogits of nll + z_loss × logsumexp² is softmax × (1 + 2 z_loss × logsumexp) - one_hot(target).
        slope_Bxl = weight_Bxl * (1.0 + 2.0 * z_loss * normalizer_Bxl) / sum_Bxl
        hit_VxBxl = jnp.arange(table_VxD.shape[0])[:, None, None] == target_Bxl
        dlogits_VxBxl = unnormalized_VxBxl * slope_Bxl - jnp.where(hit_VxBxl, weight_Bxl, 0.0)
        dlogits_VxBxl = dlogits_VxBxl.astype(hidden.dtype)
        dh_DxBxl = _product("dv,vbl->dbl", table_DxV, dlogits_VxBxl)
        dtable_VxD += _product("vbl,bld->vd", dlogits_VxBxl, h_BxlxD)
        total += _weighted(nll_Bxl, normalizer_Bxl, weight_Bxl, z_loss)
        return (total, dtable_VxD), (nll_Bxl, dh_DxBxl.transpose(1, 2, 0).astype(hidden.dtype))

    carry = jnp.zeros((), jnp.float32), jnp.zeros(table_VxD.shape, jnp.float32)
    (total, dtable_VxD), (nll_CxBxl, dh_CxBxlxD) = jax.lax.scan(body, carry, _starts(targets, chunk))
    return total[None], _joined(nll_CxBxl), _joined(dh_CxBxlxD), dtable_VxD


def _backward(z_loss, chunk, layout, residuals, cotangents):
    del z_loss, chunk, layout
    dhidden, dtable = residuals
    dtotal, _ = cotangents
    return dhidden * dtotal.astype(dhidden.dtype), dtable * dtotal.astype(dtable.dtype), None, None


_cross_entropy.defvjp(_forward, _backward)


def _product(formula: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(formula, left, right, preferred_element_type=jnp.float32)


def _chunk_loss(h_BxlxD, target_Bxl, table_VxD):
    """-> (nll [B, l], log-sum-exp [B, l], softmax [V, B, l] before the division by its sum, that sum [B, l])."""
    logits_VxBxl = _product("vd,bld->vbl", table_VxD, h_BxlxD)
    highest_Bxl = logits_VxBxl.max(0)
    unnormalized_VxBxl = jnp.exp(logits_VxBxl - highest_Bxl)
    sum_Bxl = unnormalized_VxBxl.sum(0)
    normalizer_Bxl = highest_Bxl + jnp.log(sum_Bxl)
    # The target's logit once more, from its row of the table: cheaper than to look for it among all logits.
    target_logit_Bxl = _product("bld,bld->bl", h_BxlxD, table_VxD[target_Bxl])
    return normalizer_Bxl - target_logit_Bxl, normalizer_Bxl, unnormalized_VxBxl, sum_Bxl


def _weighted(nll_Bxl, normalizer_Bxl, weight_Bxl, z_loss):
    return (weight_Bxl * (nll_Bxl + z_loss * jnp.square(normalizer_Bxl))).sum()


def _starts(targets_BxL, chunk):
    return jnp.arange(0, targets_BxL.shape[1], chunk)


def _chunk_of(start, chunk, hidden_BxLxD, targets_BxL, weights_BxL):
    cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=chunk, axis=1)
    return cut(hidden_BxLxD), cut(targets_BxL), cut(weights_BxL)


def _joined(chunks_CxBxlx):
    """[C, B, l, …] -> [B, C l, …]."""
    moved = jnp.moveaxis(chunks_CxBxlx, 0, 1)
    return moved.reshape(moved.shape[0], -1, *moved.shape[3:])
