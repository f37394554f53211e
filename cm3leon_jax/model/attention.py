"""Causal attention: one interface, and the implementation that suits the platform."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cm3leon_jax.model.attention_blocked import blocked_attention
from cm3leon_jax.model.attention_splash import splash_attention
from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning

_BY_PLATFORM = {"tpu": "splash", "gpu": "cudnn", "cuda": "cudnn"}  # elsewhere "xla"


def causal_attention(
    q_BxLxHxK: jax.Array,
    k_BxLxHxK: jax.Array,
    v_BxLxHxK: jax.Array,
    segments_BxL: jax.Array | None = None,
    *,
    implementation: str = "auto",
    partitioning: Partitioning = UNPARTITIONED,
) -> jax.Array:
    """softmax(q kᵀ) v over the tokens up to one's own, of one's own segment: [B, L, H, K] in q's dtype.

    The queries come scaled by 1/√K: the model scales their projection, which costs nothing.

    "splash" (TPU) and "cudnn" (GPU) are kernels, "xla" runs anywhere, "reference" is the definition in float32. "auto"
    chooses by platform, and "xla" where the kernel cannot: lengths that are no multiple of 128 (TPU), float32 (GPU).
    "splash_library" takes JAX's backward kernel instead of ours (`attention_backward.py`).
    Where `segments_BxL` is 0 (padding) the result is finite and means nothing.
    """
    if implementation == "auto":
        implementation = _suitable(q_BxLxHxK, partitioning.platform)
    if implementation in ("splash", "splash_library"):
        own = implementation == "splash"
        return splash_attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, segments_BxL, partitioning, own_backward=own)
    if implementation == "cudnn":
        mask = None if segments_BxL is None else segments_BxL[:, None, :, None] == segments_BxL[:, None, None, :]
        return jax.nn.dot_product_attention(
            q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, mask=mask, is_causal=True, scale=1.0, implementation="cudnn"
        )
    if implementation == "xla":
        return blocked_attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, segments_BxL)
    return reference_attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, segments_BxL)


def _suitable(q_BxLxHxK: jax.Array, platform: str) -> str:
    implementation = _BY_PLATFORM.get(platform, "xla")
    if implementation == "splash" and q_BxLxHxK.shape[1] % 128:
        return "xla"
    if implementation == "cudnn" and q_BxLxHxK.dtype == jnp.float32:
        return "xla"
    return implementation


def reference_attention(
    q_BxLxHxK: jax.Array, k_BxLxHxK: jax.Array, v_BxLxHxK: jax.Array, segments_BxL: jax.Array | None = None
) -> jax.Array:
    """The definition, in float32."""
    q, k, v = (x.astype(jnp.float32) for x in (q_BxLxHxK, k_BxLxHxK, v_BxLxHxK))
    length = q.shape[1]
    seen = jnp.tril(jnp.ones((length, length), bool))[None, None]
    if segments_BxL is not None:
        seen = seen & (segments_BxL[:, None, :, None] == segments_BxL[:, None, None, :])
    scores_BxHxLxM = jnp.einsum("blhk,bmhk->bhlm", q, k)
    weights_BxHxLxM = jax.nn.softmax(jnp.where(seen, scores_BxHxLxM, -jnp.inf), axis=-1)
    return jnp.einsum("bhlm,bmhk->blhk", weights_BxHxLxM, v).astype(q_BxLxHxK.dtype)
