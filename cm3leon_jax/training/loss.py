"""Cross entropy over a large vocabulary without ever holding all logits.

The logits of a few positions at a time are made, turned into the loss and at once into gradients, and dropped: nothing
of size [B, L, V] exists, and no logits are computed twice. They are held vocabulary-first, [V, B, l], so that sums over
the vocabulary run along whole vectors and no product needs a large transposed operand (XLA on the CPU).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


def cross_entropy(
    hidden_BxLxD: jax.Array,
    table_VxD: jax.Array,
    targets_BxL: jax.Array,
    weights_BxL: jax.Array,
    *,
    z_loss: float = 0.0,
    chunk: int = 128,
) -> tuple[jax.Array, jax.Array]:
    """-> (Σ weight × (nll + z_loss × logsumexp²), nll [B, L]), float32, in nats.

    `table_VxD` is the output projection. `chunk` positions of each row have their logits in memory at once. Only the
    sum is differentiable, and only in `hidden` and `table`; the single losses are there to be reported.
    """
    length = hidden_BxLxD.shape[1]
    chunk = min(chunk, length)
    short = -length % chunk
    if short:
        hidden_BxLxD = jnp.pad(hidden_BxLxD, ((0, 0), (0, short), (0, 0)))
        targets_BxL, weights_BxL = (jnp.pad(x, ((0, 0), (0, short))) for x in (targets_BxL, weights_BxL))
    total, nll_BxL = _cross_entropy(hidden_BxLxD, table_VxD, targets_BxL, weights_BxL, z_loss, chunk)
    return total, nll_BxL[:, :length]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _cross_entropy(hidden, table, targets, weights, z_loss, chunk):
    def body(total, start):
        h_BxlxD, target_Bxl = _chunk_of(start, chunk, hidden, targets)
        nll, log_normalizer, _ = _chunk_loss(h_BxlxD, target_Bxl, table.astype(hidden.dtype))
        weight = jax.lax.dynamic_slice_in_dim(weights, start, chunk, axis=1)
        return total + _weighted(nll, log_normalizer, weight, z_loss), nll

    total, nll_CxBxl = jax.lax.scan(body, jnp.zeros((), jnp.float32), _starts(targets, chunk))
    return total, _joined(nll_CxBxl)


def _forward(hidden, table, targets, weights, z_loss, chunk):
    table_VxD = table.astype(hidden.dtype)
    table_DxV = table_VxD.T  # moved once, outside of the loop

    def body(carry, start):
        total, dtable_VxD = carry
        h_BxlxD, target_Bxl = _chunk_of(start, chunk, hidden, targets)
        weight_Bxl = jax.lax.dynamic_slice_in_dim(weights, start, chunk, axis=1)
        nll_Bxl, log_normalizer_Bxl, logits_VxBxl = _chunk_loss(h_BxlxD, target_Bxl, table_VxD)
        probabilities_VxBxl = jnp.exp(logits_VxBxl - log_normalizer_Bxl)
        hit_VxBxl = _is_target(target_Bxl, table.shape[0])
        slope_Bxl = 1.0 + 2.0 * z_loss * log_normalizer_Bxl
        dlogits_VxBxl = (weight_Bxl * (probabilities_VxBxl * slope_Bxl - hit_VxBxl)).astype(hidden.dtype)
        dh_DxBxl = jnp.einsum("dv,vbl->dbl", table_DxV, dlogits_VxBxl, preferred_element_type=jnp.float32)
        dtable_VxD += jnp.einsum("vbl,bld->vd", dlogits_VxBxl, h_BxlxD, preferred_element_type=jnp.float32)
        dh_BxlxD = dh_DxBxl.transpose(1, 2, 0).astype(hidden.dtype)
        return (total + _weighted(nll_Bxl, log_normalizer_Bxl, weight_Bxl, z_loss), dtable_VxD), (nll_Bxl, dh_BxlxD)

    carry = jnp.zeros((), jnp.float32), jnp.zeros(table.shape, jnp.float32)
    (total, dtable_VxD), (nll_CxBxl, dh_CxBxlxD) = jax.lax.scan(body, carry, _starts(targets, chunk))
    return (total, _joined(nll_CxBxl)), (_joined(dh_CxBxlxD), dtable_VxD.astype(table.dtype))


def _backward(z_loss, chunk, residuals, cotangents):
    del z_loss, chunk
    dhidden, dtable = residuals
    dtotal, _ = cotangents
    return dhidden * dtotal.astype(dhidden.dtype), dtable * dtotal.astype(dtable.dtype), None, None


_cross_entropy.defvjp(_forward, _backward)


def _chunk_loss(h_BxlxD, target_Bxl, table_VxD):
    """-> (nll [B, l], log-sum-exp [B, l], logits [V, B, l]), float32."""
    logits_VxBxl = jnp.einsum("vd,bld->vbl", table_VxD, h_BxlxD, preferred_element_type=jnp.float32)
    highest_Bxl = logits_VxBxl.max(0)
    log_normalizer_Bxl = highest_Bxl + jnp.log(jnp.exp(logits_VxBxl - highest_Bxl).sum(0))
    target_logit_Bxl = jnp.where(_is_target(target_Bxl, table_VxD.shape[0]), logits_VxBxl, 0.0).sum(0)
    return log_normalizer_Bxl - target_logit_Bxl, log_normalizer_Bxl, logits_VxBxl


def _is_target(target_Bxl, vocab_size):
    return jnp.arange(vocab_size)[:, None, None] == target_Bxl


def _weighted(nll_Bxl, log_normalizer_Bxl, weight_Bxl, z_loss):
    return (weight_Bxl * (nll_Bxl + z_loss * jnp.square(log_normalizer_Bxl))).sum()


def _starts(targets_BxL, chunk):
    return jnp.arange(0, targets_BxL.shape[1], chunk)


def _chunk_of(start, chunk, hidden_BxLxD, targets_BxL):
    hidden_BxlxD = jax.lax.dynamic_slice_in_dim(hidden_BxLxD, start, chunk, axis=1)
    return hidden_BxlxD, jax.lax.dynamic_slice_in_dim(targets_BxL, start, chunk, axis=1)


def _joined(chunks_CxBxlx):
    """[C, B, l, …] -> [B, C l, …]."""
    moved = chunks_CxBxlx.swapaxes(0, 1)
    return moved.reshape(moved.shape[0], -1, *moved.shape[3:])
