"""The sampling loop: compiled XLA programs that read a batch of prompts and draw what they ask for.

`start` reads the prompts, `advance` draws so many steps; `decode` is both, to the end, as one program. All streams of a
row (with the text; without it, where the rule wants that) are neighbours in one batch, so that a row stays whole when
the batch is split over devices. Only the rows of the output projection that can be drawn are multiplied: image codes
where an image is due; text pieces, `<eoss>` and `<break>` where a text is.

A row has a place in its template. It goes on by one a step, and where a text ends early, to behind that text; the other
rows do not wait. Keys go to the slot of the step, whatever the place (`model/cache.py`).

Letters in names: B rows, G groups of rows that begin alike, S streams, P prompt slots, T steps, V ids that can be
drawn.
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
from cm3leon_jax.sampling.prompts import BOTH, DRAW, DRAW_SPAN, DRAW_TEXT, IMAGE, TEXT
from cm3leon_jax.sampling.weights import AS_COMPUTED, PrecisionConfig
from cm3leon_jax.vocabulary import UNK_ID, Vocabulary

Batch = dict[str, Any]
"""tokens and their positions int32 [B, S, P], right-padded; lengths int32 [B, S] of them; next int32 [B, S], the
position of the first step's token; template int32 [B, S, T], negative where a token is to be drawn (`prompts.py`) and
the stream's given token elsewhere; steps int32 [B], how many of T count; seeds uint32 [B, 3]: of the caller, the prompt
and the sample; settings, `SamplingConfig.settings()` as float32 [B, 1] each.

If rows share beginnings: shared and shared_positions int32 [G, P'], shared_lengths int32 [G]; row b is of group
b // (B / G), and `tokens` are those behind.

If texts are drawn: text_ends int32 [B, T], the step at which the text ends if it takes all its tokens; anchors int32
[B, T], the position at a step where it is known beforehand, else -1.
"""

State = dict[str, Any]


@functools.partial(jax.jit, static_argnames=("config", "precision", "partitioning"))
def start(
    params: decoder.Params,
    batch: Batch,
    *,
    config: DecoderConfig,
    precision: PrecisionConfig = AS_COMPUTED,
    partitioning: Partitioning = UNPARTITIONED,
) -> State:
    """Reads the prompts; nothing is drawn yet, and by which rule it will be makes no difference. `params` as
    `weights.sampling_params` makes them."""
    rows, streams, prompt_slots = batch["tokens"].shape
    max_steps, dtype = batch["template"].shape[-1], precision.cache_dtype
    shared = None
    if "shared" in batch:
        shared = kv_cache.prefill_shared(
            params,
            batch["shared"],
            batch["shared_lengths"],
            config=config,
            positions_GxP=batch["shared_positions"],
            dtype=dtype,
            partitioning=partitioning,
        )
    cache = kv_cache.init_cache(
        config, rows * streams, prompt_slots + max_steps, dtype, shared=shared, partitioning=partitioning
    )
    hidden, cache = kv_cache.prefill(
        params,
        cache,
        batch["tokens"].reshape(rows * streams, prompt_slots),
        batch["lengths"].reshape(rows * streams),
        config=config,
        positions_BxP=batch["positions"].reshape(rows * streams, prompt_slots),
        partitioning=partitioning,
    )
    return {
        "step": jnp.int32(0),
        "places": jnp.zeros(rows, jnp.int32),
        "positions": batch["next"],
        "tokens": jnp.full((rows, max_steps), DRAW, jnp.int32),
        "logprob": jnp.zeros(rows, jnp.float32),
        "done": batch["steps"] < 1,
        "hidden": hidden,
        "cache": cache,
    }


@functools.partial(
    jax.jit,
    static_argnames=("config", "vocabulary", "draws", "rule", "implementation", "partitioning"),
    donate_argnums=1,
)
def advance(
    params: decoder.Params,
    state: State,
    batch: Batch,
    until: jax.Array | int,
    *,
    config: DecoderConfig,
    vocabulary: Vocabulary,
    draws: str,
    rule: str,
    implementation: str = "auto",
    partitioning: Partitioning = UNPARTITIONED,
) -> State:
    """Draws by `rule` until so many steps are done, or all rows are. A row's draws depend on its seeds and its places
    in its template alone, whatever else is in the batch. `draws` is what all prompts draw, `IMAGE`, `TEXT` or `BOTH`.
    """
    rows, streams = batch["lengths"].shape
    keys_B = row_keys(batch["seeds"])
    draw_rows = functools.partial(
        draw_tokens, rule, settings=batch["settings"], partitioning=partitioning, implementation=implementation
    )
    heads = {kind: _drawable_rows(params, config, vocabulary, kind) for kind in (IMAGE, TEXT) if draws in (kind, BOTH)}

    def drawn(asked_B: jax.Array, hidden: jax.Array, places_B: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A token for each row that asks for one, and its log-probability."""
        # Apart before the product, so that its result need not be taken apart.
        hidden_SxBxD = hidden.reshape(rows, streams, -1).swapaxes(0, 1)
        keys = step_keys(keys_B, places_B)

        def of_kind(kind: str) -> tuple[jax.Array, jax.Array]:
            logits_SxBxV = decoder.logits(heads[kind], hidden_SxBxD)
            if kind == TEXT:
                logits_SxBxV = _without_other_ends(logits_SxBxV, asked_B)
            index_B, log_p_B = draw_rows(logits_SxBxV, keys)
            return _drawable_id(index_B, vocabulary, kind), log_p_B

        if draws != BOTH:
            return of_kind(draws)
        nothing = (jnp.zeros(rows, jnp.int32), jnp.zeros(rows, jnp.float32))
        wanted = {IMAGE: asked_B == DRAW, TEXT: asked_B < DRAW}
        image, text = (
            lax.cond(wanted[kind].any(), functools.partial(of_kind, kind), lambda: nothing) for kind in (IMAGE, TEXT)
        )
        return jax.tree.map(lambda a, b: jnp.where(wanted[IMAGE], a, b), image, text)

    def one_step(state: State) -> State:
        places_B, done_B = state["places"], state["done"]
        asked_BxS = _at(batch["template"], places_B)
        token_B, log_p_B = drawn(asked_BxS[:, 0], state["hidden"], places_B)
        last_BxS = jnp.where(asked_BxS < 0, token_B[:, None], asked_BxS)
        here_BxT = (jnp.arange(state["tokens"].shape[1]) == places_B[:, None]) & ~done_B[:, None]
        counts_B = (asked_BxS[:, 0] < 0) & ~done_B
        places_next_B = places_B + 1
        if draws != IMAGE:
            ended = (last_BxS[:, 0] == vocabulary.eoss_id) | (last_BxS[:, 0] == vocabulary.break_id)
            text_ended = ended & (asked_BxS[:, 0] < DRAW)
            places_next_B = jnp.where(text_ended, _at(batch["text_ends"], places_B) + 1, places_next_B)
        positions = jnp.minimum(state["positions"], config.max_length - 1)  # rows that are done run on
        hidden, cache = kv_cache.decode_step(
            params,
            state["cache"],
            last_BxS.reshape(-1),
            positions.reshape(-1),
            config=config,
            partitioning=partitioning,
        )
        return state | {
            "step": state["step"] + 1,
            "places": jnp.where(done_B, places_B, places_next_B),
            "positions": _next_positions(state["positions"], last_BxS, places_next_B, batch, config, vocabulary),
            "tokens": jnp.where(here_BxT, last_BxS[:, :1], state["tokens"]),
            "logprob": state["logprob"] + jnp.where(counts_B, log_p_B, 0.0),
            "done": done_B | (places_next_B >= batch["steps"]),
            "hidden": hidden,
            "cache": cache,
        }

    last_step = jnp.minimum(until, batch["steps"].max())

    def unfinished(state: State) -> jax.Array:
        more = state["step"] < last_step
        return more if draws == IMAGE else more & ~state["done"].all()

    # What is shared does not change: the loop reads it, and does not carry it on.
    shared, cache = state["cache"]["shared"], {k: v for k, v in state["cache"].items() if k != "shared"}

    def body(carried: State) -> State:
        stepped = one_step(carried | {"cache": carried["cache"] | {"shared": shared}})
        return stepped | {"cache": {k: v for k, v in stepped["cache"].items() if k != "shared"}}

    state = lax.while_loop(unfinished, body, state | {"cache": cache})
    return state | {"cache": state["cache"] | {"shared": shared}}


def results(state: State, partitioning: Partitioning = UNPARTITIONED) -> tuple[jax.Array, jax.Array]:
    """-> tokens int32 [B, T] of the stream with everything given, forced ones included, each at its place and `DRAW` at
    places that were not reached; and float32 [B], the sum of log-probabilities of what was drawn, in that stream at
    temperature 1. Whole on every device: each process of a pod reads them."""
    return partitioning.constrain(state["tokens"], None, None), partitioning.constrain(state["logprob"], None)


@functools.partial(
    jax.jit, static_argnames=("config", "vocabulary", "draws", "rule", "precision", "implementation", "partitioning")
)
def decode(
    params: decoder.Params,
    batch: Batch,
    *,
    config: DecoderConfig,
    precision: PrecisionConfig = AS_COMPUTED,
    partitioning: Partitioning = UNPARTITIONED,
    **options: Any,
) -> tuple[jax.Array, jax.Array]:
    """`start`, `advance` to the end, and `results`: all as one program. `options` are those of `advance`."""
    state = start(params, batch, config=config, precision=precision, partitioning=partitioning)
    end = batch["template"].shape[-1]
    state = advance(params, state, batch, end, config=config, partitioning=partitioning, **options)
    return results(state, partitioning)


def row_keys(seeds_Bx3: jax.Array) -> jax.Array:
    """The key of each row: from the caller's seed, the prompt's own number and the sample's -> [B] keys."""

    def key(seeds: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seeds[0], impl=GENERATOR), seeds[1]), seeds[2])

    return jax.vmap(key)(seeds_Bx3)


def step_keys(keys_B: jax.Array, places_B: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in)(keys_B, places_B)


def _at(values_BxT: jax.Array, places_B: jax.Array) -> jax.Array:
    """[B, …, T] -> [B, …], each row's value at its place; at its last if the place is beyond."""
    places = jnp.minimum(places_B, values_BxT.shape[-1] - 1).reshape(-1, *(1,) * (values_BxT.ndim - 1))
    return jnp.take_along_axis(values_BxT, places, axis=-1)[..., 0]


def _next_positions(
    positions_BxS: jax.Array,
    last_BxS: jax.Array,
    places_B: jax.Array,
    batch: Batch,
    config: DecoderConfig,
    vocabulary: Vocabulary,
) -> jax.Array:
    """Positions of the tokens after `last`, by the config's `documents.PositionRule`."""
    following = positions_BxS + 1
    if "anchors" not in batch:  # then no <break> is read, and positions count tokens
        return following
    if stride := config.position_stride:
        offset = config.query_position % stride  # the query's own count begins there
        aligned = following + (offset - following) % stride
        following = jnp.where(last_BxS == vocabulary.break_id, aligned, following)
    anchors_Bx1 = _at(batch["anchors"], places_B)[:, None]
    return jnp.where(anchors_Bx1 >= 0, anchors_Bx1, following)


def _drawable_rows(params: decoder.Params, config: DecoderConfig, vocabulary: Vocabulary, kind: str) -> decoder.Params:
    """The part of the tied embedding that can be drawn, [V, D], as parameters for `decoder.logits`: image codes, or
    text pieces, `<eoss>` and `<break>`."""
    table = params["embedding"]["tokens"]
    if kind == IMAGE:
        rows = table[vocabulary.image_offset : vocabulary.break_id]
    else:
        ends = table[jnp.array([vocabulary.eoss_id, vocabulary.break_id])]
        rows = jax.tree.map(lambda *parts: jnp.concatenate(parts), table[UNK_ID : vocabulary.text_size], ends)
    return {"embedding": {"tokens": rows}}


def _without_other_ends(logits_SxBxV: jax.Array, asked_B: jax.Array) -> jax.Array:
    """A hidden span of text ends with `<eoss>` alone, the last column but one, and a text in place with `<break>`."""
    columns = jnp.arange(logits_SxBxV.shape[-1]) - logits_SxBxV.shape[-1]
    forbidden = (columns == -1) & (asked_B == DRAW_SPAN)[:, None] | (columns == -2) & (asked_B == DRAW_TEXT)[:, None]
    return jnp.where(forbidden, -jnp.inf, logits_SxBxV)


def _drawable_id(index: jax.Array, vocabulary: Vocabulary, kind: str) -> jax.Array:
    """Index into `_drawable_rows` -> id."""
    if kind == IMAGE:
        return index + vocabulary.image_offset
    ends = jnp.where(index == vocabulary.text_size - UNK_ID, vocabulary.eoss_id, vocabulary.break_id)
    return jnp.where(index < vocabulary.text_size - UNK_ID, index + UNK_ID, ends)
