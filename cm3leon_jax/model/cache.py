"""Decoding with a key-value cache: prompts of different lengths in one batch, one new token a row a step.

Slots are not positions. A prompt right-padded to P tokens fills slots 0 … P-1; the token of decoding step t goes to
slot P + t in *every* row, so that a step writes one slice instead of scattering rows. A row sees the slots of its own
prompt (`slot < length`) and those decoded since (`P <= slot <= P + t`).

Rows that begin alike (the same retrieved documents, in both streams and all samples of a prompt) can share that
beginning: it is run once a group of rows (`prefill_shared`), and its keys are kept and read once for all of them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from cm3leon_jax.model.attention import causal_attention
from cm3leon_jax.model.attention_cached import Part, Shared, cached_attention, prompt_attention
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params, embed, run_layers
from cm3leon_jax.model.int8 import Int8
from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning
from cm3leon_jax.runtime.compute_dtype import Use

# keys, values: [N, B, H, slots, K], as one array when layers are scanned and as a list of layers when unrolled (then
# each layer's buffer is updated in place), or that as Int8 with a scale for each slot; lengths: int32 [B]; prompt,
# used: int32 scalars, slots filled so far; shared: of what rows have in common, keys, values and lengths likewise, with
# groups in the place of rows, or nothing.
Cache = dict[str, Any]

CACHE_DTYPES = ("float32", "bfloat16", "int8")


def init_cache(
    config: DecoderConfig,
    batch: int,
    length: int,
    dtype: str | None = None,
    *,
    shared: Cache | None = None,
    partitioning: Partitioning = UNPARTITIONED,
) -> Cache:
    """An empty cache of `length` slots: the longest prompt, padded, plus the tokens to be decoded after it.

    `dtype` is one of `CACHE_DTYPES`; by default the compute dtype, but on a CPU float32: attention over bfloat16 takes
    six times as long there. `shared` is what `prefill_shared` gave, of the same type. Split as the batch and the heads
    are.
    """
    shape = (batch, config.num_heads, length, config.head_dim)
    scales_shape = (batch, config.num_heads, 1, length)  # slots last: an axis of one number is padded to 128 on TPUs
    platform = partitioning.platform
    dtype = dtype or ("float32" if platform == "cpu" else config.computing_in(Use.SAMPLING, platform).compute_dtype)

    def empty(leading: tuple[int, ...], *axes: str | None) -> Any:
        def zeros(shape: tuple[int, ...], dtype: str) -> jax.Array:
            return partitioning.constrain(jnp.zeros((*leading, *shape), dtype), *axes)

        return Int8(zeros(shape, "int8"), zeros(scales_shape, "float32")) if dtype == "int8" else zeros(shape, dtype)

    def buffers() -> Any:
        if config.stack == "scan":
            return empty((config.num_layers,), "layers", "batch", "heads", None, None)
        return [empty((), "batch", "heads", None, None) for _ in range(config.num_layers)]

    zero = jnp.zeros((), jnp.int32)
    return {
        "keys": buffers(),
        "values": buffers(),
        "lengths": jnp.zeros(batch, jnp.int32),
        "prompt": zero,
        "used": zero,
        "shared": shared,
    }


def prefill_shared(
    params: Params,
    tokens_GxP: jax.Array,
    lengths_G: jax.Array,
    *,
    config: DecoderConfig,
    positions_GxP: jax.Array | None = None,
    dtype: str | None = None,
    partitioning: Partitioning = UNPARTITIONED,
) -> Cache:
    """Runs right-padded beginnings of prompts -> what `init_cache` takes as `shared`. Row b of B belongs to group
    b // (B / G)."""
    groups, slots = tokens_GxP.shape
    cache = init_cache(config, groups, slots, dtype, partitioning=partitioning)
    _, cache = prefill(
        params, cache, tokens_GxP, lengths_G, config=config, positions_BxP=positions_GxP, partitioning=partitioning
    )
    return {name: cache[name] for name in ("keys", "values", "lengths")}


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

    What is shared is not among the tokens. Positions are counted from 0, or behind what is shared, if they are not
    given. The cache may hold anything before; its slots from P on are free afterwards.
    """
    hidden_BxPxD, cache = read(
        params, cache, tokens_BxP, lengths_B, config=config, positions_BxP=positions_BxP, partitioning=partitioning
    )
    return jnp.take_along_axis(hidden_BxPxD, (lengths_B - 1)[:, None, None], axis=1)[:, 0], cache


def read(
    params: Params,
    cache: Cache,
    tokens_BxP: jax.Array,
    lengths_B: jax.Array,
    *,
    config: DecoderConfig,
    positions_BxP: jax.Array | None = None,
    partitioning: Partitioning = UNPARTITIONED,
) -> tuple[jax.Array, Cache]:
    """`prefill` with the hidden states at all tokens, [B, P, D]."""
    batch, padded = tokens_BxP.shape
    shared = cache["shared"]

    def attend(q, k, v, buffers, layer):
        buffers = tuple(_write(buffer, layer, 0, x) for buffer, x in zip(buffers, (k, v), strict=True))
        if shared is None:
            return causal_attention(q, k, v, implementation=config.attention, partitioning=partitioning), buffers
        return prompt_attention(q, k, v, _shared(shared, layer)), buffers

    if positions_BxP is None:
        first_B = jnp.zeros(batch, jnp.int32)
        if shared is not None:
            first_B = jnp.repeat(shared["lengths"], batch // len(shared["lengths"]))
        positions_BxP = first_B[:, None] + jnp.arange(padded)
    x_BxPxD = embed(params, tokens_BxP, positions_BxP, config, partitioning)
    hidden_BxPxD, (keys, values) = run_layers(
        params, x_BxPxD, attend, (cache["keys"], cache["values"]), config=config, partitioning=partitioning
    )
    used = jnp.full((), padded, jnp.int32)
    filled = {"keys": keys, "values": values, "lengths": lengths_B.astype(jnp.int32), "prompt": used, "used": used}
    return hidden_BxPxD, cache | filled


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

    `positions_B` are the tokens' places in their sequences: in step t usually `lengths_B + t`, and behind what is
    shared. They choose the learned positions alone; a row sees its whole prompt and every token decoded since,
    whatever they say.
    """
    used, shared = cache["used"], cache["shared"]

    def attend(q, k, v, buffers, layer):
        buffers = tuple(_write(buffer, layer, used, x) for buffer, x in zip(buffers, (k, v), strict=True))
        own = Part(*(_layer(buffer, layer) for buffer in buffers))
        slots = jnp.arange(own.keys_BxHxSxK.shape[2])
        decoded = (slots >= cache["prompt"]) & (slots <= used)
        seen_BxS = (slots < cache["lengths"][:, None]) | decoded
        common = None if shared is None else _shared(shared, layer)
        return cached_attention(q, own, seen_BxS[:, None], common), buffers

    x_Bx1xD = embed(params, tokens_B[:, None], positions_B[:, None], config, partitioning)
    hidden_Bx1xD, (keys, values) = run_layers(
        params, x_Bx1xD, attend, (cache["keys"], cache["values"]), config=config, partitioning=partitioning
    )
    return hidden_Bx1xD[:, 0], cache | {"keys": keys, "values": values, "used": used + 1}


def _write(buffer: Any, layer: Any, slot: Any, new_BxPxHxK: jax.Array) -> Any:
    """Puts P tokens of one layer at `slot`."""
    if isinstance(buffer, list):
        return [*buffer[:layer], _put(buffer[layer], (), slot, new_BxPxHxK), *buffer[layer + 1 :]]
    return _put(buffer, (layer,), slot, new_BxPxHxK)


def _put(buffer: Any, leading: tuple, slot: Any, new_BxPxHxK: jax.Array) -> Any:
    def put(old: jax.Array, new: jax.Array, place: tuple) -> jax.Array:
        new = new.astype(old.dtype).reshape((1,) * len(leading) + new.shape)
        return jax.lax.dynamic_update_slice(old, new, (*leading, 0, 0, *place))

    new_BxHxPxK = new_BxPxHxK.swapaxes(1, 2)
    if not isinstance(buffer, Int8):
        return put(buffer, new_BxHxPxK, (slot, 0))
    rounded = Int8.of(new_BxHxPxK, axis=-1)
    scales_BxHx1xP = rounded.scales.swapaxes(2, 3)
    return Int8(put(buffer.data, rounded.data, (slot, 0)), put(buffer.scales, scales_BxHx1xP, (0, slot)))


def _shared(shared: Cache, layer: Any) -> Shared:
    return Shared(Part(_layer(shared["keys"], layer), _layer(shared["values"], layer)), shared["lengths"])


def _layer(buffer: Any, layer: Any) -> Any:
    return buffer[layer]
