"""Decoding with a key-value cache: prompts of different lengths in one batch, one new token a row a step.

Slots are not positions. A prompt right-padded to P tokens fills slots 0 … P-1; the token of decoding step t goes to
slot P + t in *every* row, so that a step writes one slice instead of scattering rows. A row sees the slots of its own
prompt (`slot < length`) and those decoded since (`P <= slot <= P + t`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from cm3leon_jax.model.attention import causal_attention, one_query_attention
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params, embed, run_layers
from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning

# keys, values: [N, B, H, slots, K], as one array when layers are scanned and as a list of layers when unrolled (then
# each layer's buffer is updated in place); lengths: int32 [B]; prompt, used: int32 scalars, slots filled so far.
Cache = dict[str, Any]


def init_cache(
    config: DecoderConfig,
    batch: int,
    length: int,
    dtype: Any = None,
    *,
    partitioning: Partitioning = UNPARTITIONED,
) -> Cache:
    """An empty cache of `length` slots: the longest prompt, padded, plus the tokens to be decoded after it.

    In the compute dtype unless told, but on a CPU in float32: attention over bfloat16 takes six times as long there.
    Split as the batch and the heads are.
    """
    shape = (batch, config.num_heads, length, config.head_dim)
    if dtype is None:
        dtype = jnp.float32 if partitioning.platform == "cpu" else config.dtype

    def buffers() -> Any:
        if config.stack == "scan":
            empty = jnp.zeros((config.num_layers, *shape), dtype)
            return partitioning.constrain(empty, "layers", "batch", "heads", None, None)
        return [
            partitioning.constrain(jnp.zeros(shape, dtype), "batch", "heads", None, None)
            for _ in range(config.num_layers)
        ]

    zero = jnp.zeros((), jnp.int32)
    return {
        "keys": buffers(),
        "values": buffers(),
        "lengths": jnp.zeros(batch, jnp.int32),
        "prompt": zero,
        "used": zero,
    }


def prefill(
    params: Params,
    cache: Cache,
    tokens_BxP: jax.Array,
    lengths_B: jax.Array,
    *,
    config: DecoderConfig,
    positions_BxP: jax.Array | None = None,
    partitioning: Partitioning = UNPARTITIONED,
) -> tuple[jax.Array, Cache]:
    """Runs right-padded prompts of `lengths_B` (at least 1) tokens -> (hidden [B, D] at each one's last token, cache).

    The cache may hold anything before; its slots from P on are free afterwards.
    """
    batch, padded = tokens_BxP.shape

    def attend(q, k, v, buffers, layer):
        keys, values = (_write(buffer, layer, 0, x.swapaxes(1, 2)) for buffer, x in zip(buffers, (k, v), strict=True))
        mixed = causal_attention(q, k, v, implementation=config.attention, partitioning=partitioning)
        return mixed, (keys, values)

    if positions_BxP is None:
        positions_BxP = jnp.broadcast_to(jnp.arange(padded), (batch, padded))
    x_BxPxD = embed(params, tokens_BxP, positions_BxP, config, partitioning)
    hidden_BxPxD, (keys, values) = run_layers(
        params, x_BxPxD, attend, (cache["keys"], cache["values"]), config=config, partitioning=partitioning
    )
    used = jnp.full((), padded, jnp.int32)
    cache = {"keys": keys, "values": values, "lengths": lengths_B.astype(jnp.int32), "prompt": used, "used": used}
    return jnp.take_along_axis(hidden_BxPxD, (lengths_B - 1)[:, None, None], axis=1)[:, 0], cache


def decode_step(
    params: Params,
    cache: Cache,
    tokens_B: jax.Array,
    positions_B: jax.Array,
    *,
    config: DecoderConfig,
    partitioning: Partitioning = UNPARTITIONED,
) -> tuple[jax.Array, Cache]:
    """One more token in every row -> (hidden [B, D] at it, cache).

    `positions_B` are the tokens' places in their sequences: in step t usually `lengths_B + t`. They choose the learned
    positions alone; a row sees its whole prompt and every token decoded since, whatever they say.
    """
    used = cache["used"]

    def attend(q, k, v, buffers, layer):
        keys, values = (
            _write(buffer, layer, used, x.swapaxes(1, 2)) for buffer, x in zip(buffers, (k, v), strict=True)
        )
        keys_BxHxSxK, values_BxHxSxK = _read(keys, layer), _read(values, layer)
        slots = jnp.arange(keys_BxHxSxK.shape[2])
        decoded = (slots >= cache["prompt"]) & (slots <= used)
        seen_BxS = (slots < cache["lengths"][:, None]) | decoded
        return one_query_attention(q, keys_BxHxSxK, values_BxHxSxK, seen_BxS), (keys, values)

    x_Bx1xD = embed(params, tokens_B[:, None], positions_B[:, None], config, partitioning)
    hidden_Bx1xD, (keys, values) = run_layers(
        params, x_Bx1xD, attend, (cache["keys"], cache["values"]), config=config, partitioning=partitioning
    )
    return hidden_Bx1xD[:, 0], cache | {"keys": keys, "values": values, "used": used + 1}


def _write(buffer: Any, layer: Any, slot: Any, new_BxHxPxK: jax.Array) -> Any:
    """Puts P tokens of one layer at `slot`."""
    if isinstance(buffer, list):
        new = jax.lax.dynamic_update_slice(buffer[layer], new_BxHxPxK.astype(buffer[layer].dtype), (0, 0, slot, 0))
        return [*buffer[:layer], new, *buffer[layer + 1 :]]
    return jax.lax.dynamic_update_slice(buffer, new_BxHxPxK.astype(buffer.dtype)[None], (layer, 0, 0, slot, 0))


def _read(buffer: Any, layer: Any) -> jax.Array:
    return buffer[layer]
