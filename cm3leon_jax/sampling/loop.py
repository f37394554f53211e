"""The sampling loop: one compiled XLA program that reads a batch of prompts and draws what they ask for.

All streams of a row (with the text; without it, where the rule wants that) are neighbours in one batch, so that a row
stays whole when the batch is split over devices. Only the rows of the output projection that can be drawn are
multiplied: image codes for images, text pieces and `<eoss>` for texts.

Letters in names: B rows, S streams, P prompt slots, T steps, V ids that can be drawn.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cm3leon_jax.model import cache as kv_cache
from cm3leon_jax.model import decoder
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning
from cm3leon_jax.sampling.draw import draw_tokens
from cm3leon_jax.sampling.noise import GENERATOR
from cm3leon_jax.sampling.prompts import DRAW, IMAGE, TEXT
from cm3leon_jax.vocabulary import UNK_ID, Vocabulary

Batch = dict[str, Any]
"""tokens and their positions int32 [B, S, P], right-padded; lengths int32 [B, S] of them; next int32 [B, S], the
position of the first step's token; forced int32 [B, S, T], `DRAW` where a token is
to be drawn and the stream's given token elsewhere; steps int32 [B], how many of T count; seeds uint32 [B, 2], the
prompt's own number and the sample's. S is 2 (with and without the text) for the rules in `rules.TWO_STREAMS`, else 1.
"""


@functools.partial(jax.jit, static_argnames=("config", "vocabulary", "draws", "rule", "implementation", "partitioning"))
def decode(
    params: decoder.Params,
    batch: Batch,
    seed: jax.Array,
    settings: dict[str, jax.Array],
    *,
    config: DecoderConfig,
    vocabulary: Vocabulary,
    draws: str,
    rule: str,
    implementation: str = "auto",
    partitioning: Partitioning = UNPARTITIONED,
) -> tuple[jax.Array, jax.Array]:
    """Draws by `rule` -> tokens int32 [B, T] of the stream with the text, forced ones included, and float32 [B]: the
    sum of log-probabilities of what was drawn, under the model with the text at temperature 1.

    `settings` are `SamplingConfig.settings()`; `draws` is `IMAGE` or `TEXT`. A row's draws depend on `seed`, its
    `seeds` and the step alone, whatever else is in the batch. A text's tokens after its first `<eoss>` mean nothing.
    """
    rows, streams, prompt_slots = batch["tokens"].shape
    max_steps = batch["forced"].shape[-1]
    head = _drawable_rows(params, config, vocabulary, draws)
    # The weights are cast once here, not in every step.
    params = params | {"layers": jax.tree.map(lambda x: x.astype(config.dtype), params["layers"])}
    keys_B = row_keys(seed, batch["seeds"])
    lengths, first = batch["lengths"].reshape(rows * streams), batch["next"].reshape(rows * streams)

    def draw(state: dict, hidden: jax.Array) -> dict:
        step = state["step"]
        # Apart before the product, so that its result need not be taken apart.
        hidden_SxBxD = hidden.reshape(rows, streams, -1).swapaxes(0, 1)
        logits_SxBxV = decoder.logits(head, hidden_SxBxD, config=config)
        index_B, log_p_B = draw_tokens(
            rule, logits_SxBxV, step_keys(keys_B, step), settings, partitioning, implementation=implementation
        )
        drawn_B = _drawable_id(index_B, vocabulary, draws)
        forced_BxS = lax.dynamic_index_in_dim(batch["forced"], step, axis=2, keepdims=False)
        last_BxS = jnp.where(forced_BxS == DRAW, drawn_B[:, None], forced_BxS)
        counts_B = (forced_BxS[:, 0] == DRAW) & ~state["done"]
        return {
            "step": step + 1,
            "last": last_BxS,
            "tokens": lax.dynamic_update_index_in_dim(state["tokens"], last_BxS[:, 0], step, axis=1),
            "logprob": state["logprob"] + jnp.where(counts_B, log_p_B, 0.0),
            "done": state["done"] | (counts_B & (drawn_B == vocabulary.eoss_id)) | (step + 1 >= batch["steps"]),
        }

    def one_step(carry: tuple[dict, jax.Array, Any]) -> tuple[dict, jax.Array, Any]:
        state, hidden, cache = carry
        positions = jnp.minimum(first + state["step"], config.max_length - 1)  # rows that are done run on
        state = draw(state, hidden)
        hidden, cache = kv_cache.decode_step(
            params, cache, state["last"].reshape(-1), positions, config=config, partitioning=partitioning
        )
        return state, hidden, cache

    last_step = batch["steps"].max()

    def unfinished(carry: tuple[dict, jax.Array, Any]) -> jax.Array:
        more = carry[0]["step"] < last_step
        return more & ~carry[0]["done"].all() if draws == TEXT else more

    cache = kv_cache.init_cache(config, rows * streams, prompt_slots + max_steps, partitioning=partitioning)
    tokens = batch["tokens"].reshape(rows * streams, prompt_slots)
    positions = batch["positions"].reshape(rows * streams, prompt_slots)
    hidden, cache = kv_cache.prefill(
        params, cache, tokens, lengths, config=config, positions_BxP=positions, partitioning=partitioning
    )
    start = {
        "step": jnp.int32(0),
        "last": jnp.zeros((rows, streams), jnp.int32),
        "tokens": jnp.zeros((rows, max_steps), jnp.int32),
        "logprob": jnp.zeros(rows, jnp.float32),
        "done": jnp.zeros(rows, bool),
    }
    state, _, _ = lax.while_loop(unfinished, one_step, (start, hidden, cache))
    # Whole on every device: each process of a pod reads the result.
    return partitioning.constrain(state["tokens"], None, None), partitioning.constrain(state["logprob"], None)


def row_keys(seed: jax.Array | int, seeds_Bx2: jax.Array) -> jax.Array:
    """The key of each row: from the seed of all, the prompt's own number and the sample's -> [B] keys."""
    key = jax.random.key(seed, impl=GENERATOR)
    return jax.vmap(lambda pair: jax.random.fold_in(jax.random.fold_in(key, pair[0]), pair[1]))(seeds_Bx2)


def step_keys(keys_B: jax.Array, step: jax.Array | int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, step))(keys_B)


def _drawable_rows(params: decoder.Params, config: DecoderConfig, vocabulary: Vocabulary, draws: str) -> decoder.Params:
    """The part of the tied embedding that can be drawn, [V, D], as parameters for `decoder.logits`."""
    table = params["embedding"]["tokens"]
    if draws == IMAGE:
        table = table[vocabulary.image_offset : vocabulary.break_id]
    else:
        eoss = vocabulary.eoss_id
        table = jnp.concatenate([table[UNK_ID : vocabulary.text_size], table[eoss : eoss + 1]])
    return {"embedding": {"tokens": table.astype(config.dtype)}}


def _drawable_id(index: jax.Array, vocabulary: Vocabulary, draws: str) -> jax.Array:
    """Index into `_drawable_rows` -> id."""
    if draws == IMAGE:
        return index + vocabulary.image_offset
    return jnp.where(index < vocabulary.text_size - UNK_ID, index + UNK_ID, vocabulary.eoss_id)
