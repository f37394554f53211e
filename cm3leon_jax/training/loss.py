"""Cross entropy over a large vocabulary without ever holding all logits.

The logits of a few positions at a time are made, turned into the loss and at once into gradients, and dropped: nothing
of size [B, L, V] exists, and no logits are computed twice. They are held vocabulary-first, [V, B, l], so that sums over
the vocabulary run along whole vectors and no product needs a large transposed operand (XLA on the CPU).

Rows are grouped by the device that holds them, [S, R, …] for S shards of R rows, and so is the output projection's
gradient, [S, V, D], until the last chunk is done: devices then add up once instead of once a chunk.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning


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
    rows, length, _ = hidden_BxLxD.shape
    chunk = min(chunk, length)
    short = -length % chunk
    shards = partitioning.batch_shards

    def grouped(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, short), *((0, 0),) * (x.ndim - 2)))
        x = x.reshape(shards, rows // shards, *x.shape[1:])
        return partitioning.constrain(x, "batch")

    hidden_SxRxLxD, targets_SxRxL, weights_SxRxL = (grouped(x) for x in (hidden_BxLxD, targets_BxL, weights_BxL))
    total, nll_SxRxL = _cross_entropy(
        hidden_SxRxLxD, table_VxD, targets_SxRxL, weights_SxRxL, z_loss, chunk, partitioning
    )
    return total, nll_SxRxL.reshape(rows, -1)[:, :length]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _cross_entropy(hidden, table, targets, weights, z_loss, chunk, partitioning):
    del partitioning
    table_VxD = table.astype(hidden.dtype)

    def body(total, start):
        h_SxRxlxD, target_SxRxl, weight_SxRxl = _chunk_of(start, chunk, hidden, targets, weights)
        nll_SxRxl, log_normalizer_SxRxl, _ = _chunk_loss(h_SxRxlxD, target_SxRxl, table_VxD)
        return total + _weighted(nll_SxRxl, log_normalizer_SxRxl, weight_SxRxl, z_loss), nll_SxRxl

    total, nll_CxSxRxl = jax.lax.scan(body, jnp.zeros((), jnp.float32), _starts(targets, chunk))
    return total, _joined(nll_CxSxRxl)


def _forward(hidden, table, targets, weights, z_loss, chunk, partitioning):
    table_VxD = table.astype(hidden.dtype)
    table_DxV = table_VxD.T  # moved once, outside of the loop
    shards = hidden.shape[0]

    def body(carry, start):
        total, dtable_SxVxD = carry
        h_SxRxlxD, target_SxRxl, weight_SxRxl = _chunk_of(start, chunk, hidden, targets, weights)
        nll_SxRxl, log_normalizer_SxRxl, logits_SxVxRxl = _chunk_loss(h_SxRxlxD, target_SxRxl, table_VxD)
        # d/dlogits of nll + z_loss × logsumexp²: softmax × (1 + 2 z_loss × logsumexp) - one_hot(target)
        slope_SxRxl = weight_SxRxl * (1.0 + 2.0 * z_loss * log_normalizer_SxRxl)
        softmax_SxVxRxl = jnp.exp(logits_SxVxRxl - log_normalizer_SxRxl[:, None])
        hit_VxSxRxl = jnp.arange(table.shape[0])[:, None, None] == target_SxRxl[:, None]
        dlogits_SxVxRxl = softmax_SxVxRxl * slope_SxRxl[:, None] - jnp.where(hit_VxSxRxl, weight_SxRxl[:, None], 0.0)
        dlogits_SxVxRxl = dlogits_SxVxRxl.astype(hidden.dtype)
        dh_DxSxRxl = _product("dv,svrl->dsrl", table_DxV, dlogits_SxVxRxl)
        dtable_SxVxD += _product("svrl,srld->svd", dlogits_SxVxRxl, h_SxRxlxD)
        total += _weighted(nll_SxRxl, log_normalizer_SxRxl, weight_SxRxl, z_loss)
        return (total, dtable_SxVxD), (nll_SxRxl, dh_DxSxRxl.transpose(1, 2, 3, 0).astype(hidden.dtype))

    zeros = partitioning.constrain(jnp.zeros((shards, *table.shape), jnp.float32), "batch", "vocab")
    (total, dtable_SxVxD), (nll_CxSxRxl, dh_CxSxRxlxD) = jax.lax.scan(
        body, (jnp.zeros((), jnp.float32), zeros), _starts(targets, chunk)
    )
    return (total, _joined(nll_CxSxRxl)), (_joined(dh_CxSxRxlxD), dtable_SxVxD.sum(0).astype(table.dtype))


def _backward(z_loss, chunk, partitioning, residuals, cotangents):
    del z_loss, chunk, partitioning
    dhidden, dtable = residuals
    dtotal, _ = cotangents
    return dhidden * dtotal.astype(dhidden.dtype), dtable * dtotal.astype(dtable.dtype), None, None


_cross_entropy.defvjp(_forward, _backward)


def _product(formula: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(formula, left, right, preferred_element_type=jnp.float32)


def _chunk_loss(h_SxRxlxD, target_SxRxl, table_VxD):
    """-> (nll [S, R, l], log-sum-exp [S, R, l], logits [S, V, R, l]), float32."""
    logits_SxVxRxl = _product("vd,srld->svrl", table_VxD, h_SxRxlxD)
    highest_SxRxl = logits_SxVxRxl.max(1)
    log_normalizer_SxRxl = highest_SxRxl + jnp.log(jnp.exp(logits_SxVxRxl - highest_SxRxl[:, None]).sum(1))
    # The target's logit once more, from its row of the table: cheaper than to look for it among all logits.
    target_logit_SxRxl = _product("srld,srld->srl", h_SxRxlxD, table_VxD[target_SxRxl])
    return log_normalizer_SxRxl - target_logit_SxRxl, log_normalizer_SxRxl, logits_SxVxRxl


def _weighted(nll, log_normalizer, weight, z_loss):
    return (weight * (nll + z_loss * jnp.square(log_normalizer))).sum()


def _starts(targets_SxRxL, chunk):
    return jnp.arange(0, targets_SxRxL.shape[2], chunk)


def _chunk_of(start, chunk, hidden_SxRxLxD, targets_SxRxL, weights_SxRxL):
    cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=chunk, axis=2)
    return cut(hidden_SxRxLxD), cut(targets_SxRxL), cut(weights_SxRxL)


def _joined(chunks_CxSxRxlx):
    """[C, S, R, l, …] -> [S, R, C l, …]."""
    moved = jnp.moveaxis(chunks_CxSxRxlx, 0, 2)
    return moved.reshape(*moved.shape[:2], -1, *moved.shape[4:])
