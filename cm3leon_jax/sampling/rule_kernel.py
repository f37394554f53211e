"""The rules as one Pallas kernel for TPU: it reads each logit once and writes the token drawn.

A block of rows, all streams of each, waits in the chip's memory while the kernel passes over it, some thousand tokens
of all rows at a time: once for the maxima, once for the sums, 32 times for the threshold (by the bisection of
`thresholds.py`), once to draw. Constants of a row, which no draw depends on, are left out of scores.

Letters in names: B rows, S streams, V tokens, R rows of a block, C tokens at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from cm3leon_jax.sampling import rules, thresholds
from cm3leon_jax.sampling.noise import gumbel

KERNEL_NAME = "sampling_rule"
_ROWS = 8  # of a block: a TPU register's height; what more rows would save is small beside their computing
_TOKENS = 1024  # at a time: 8 registers of each value
_MEMORY_BYTES = 14 * 2**20  # what of the chip's 16 MiB for kernels a block may take
_SETTINGS = ("temperature", "top_p", "guidance_scale", "image_guidance_scale", "cdk_k", "cdk_alpha",
             "expert_temperature", "amateur_temperature", "score_temperature")  # fmt: skip


def fits(streams: int, vocabulary: int) -> bool:
    """Whether a block of rows finds room: 75 thousand tokens in two streams do, or 110 thousand in one."""
    return _memory_bytes(streams, vocabulary) <= _MEMORY_BYTES


def numbers(settings: dict, rows: int) -> jax.Array:
    """Settings, one number for all rows or float32 [B, 1] -> what `draw_by_kernel` takes, float32 [B, settings]."""
    columns = (jnp.asarray(settings[name], jnp.float32) for name in _SETTINGS)
    return jnp.concatenate([jnp.broadcast_to(column, (rows, 1)) for column in columns], axis=1)


def draw_by_kernel(
    rule: str, logits_SxBxV: jax.Array, words_Bx2: jax.Array, numbers_BxN: jax.Array, *, interpret: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Draws a token of each row by `rule` -> its index, int32 [B], and its log-probability in stream 0, float32 [B].

    logits float32 [S, B, V], the stream with the text first, that without it last; words uint32 [B, 2] of the keys;
    `numbers` of the settings. `interpret` runs it anywhere, slowly. Not partitioned: `draw.draw_tokens` gives each
    device its own rows.
    """
    streams, batch, vocabulary = logits_SxBxV.shape
    rows, padded = min(_ROWS, batch), _padded(vocabulary)
    row = pl.BlockSpec((rows, 1), lambda block: (block, 0))
    # Wider than the rows, so that nothing is padded in memory: what lies beyond them is not defined.
    logits = [
        pl.BlockSpec((None, rows, padded), functools.partial(lambda stream, block: (stream, block, 0), stream))
        for stream in range(streams)
    ]
    index_Bx1, log_p_Bx1 = pl.pallas_call(
        functools.partial(_kernel, rule=rule, vocabulary=vocabulary),
        grid=(pl.cdiv(batch, rows),),
        in_specs=[
            pl.BlockSpec((rows, len(_SETTINGS)), lambda block: (block, 0)),
            pl.BlockSpec((rows, 2), lambda block: (block, 0)),
            *logits,
        ],
        out_specs=[row, row],
        out_shape=[jax.ShapeDtypeStruct((batch, 1), dtype) for dtype in (jnp.int32, jnp.float32)],
        scratch_shapes=[pltpu.VMEM((rows, padded), dtype) for dtype in (jnp.int32, jnp.float32)],
        # Rows do not depend on each other: a chip of two cores splits them.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
        name=KERNEL_NAME,
        interpret=interpret,
    )(numbers_BxN, words_Bx2, *[logits_SxBxV] * streams)
    return index_Bx1[:, 0], log_p_Bx1[:, 0]


def _padded(vocabulary: int) -> int:
    return pl.cdiv(vocabulary, _TOKENS) * _TOKENS


def _memory_bytes(streams: int, vocabulary: int) -> int:
    # Two blocks, since the next one is fetched meanwhile, and what a rule keeps of each token.
    return 4 * _padded(vocabulary) * _ROWS * (2 * streams + 2)


def _kernel(numbers_RxN: Any, words_Rx2: Any, *refs: Any, rule: str, vocabulary: int) -> None:
    *logits_RxV, index_Rx1, log_p_Rx1, order_RxV, weights_RxV = refs
    settings = {name: numbers_RxN[:, place : place + 1] for place, name in enumerate(_SETTINGS)}
    rows, padded = order_RxV.shape
    zeros = jnp.zeros((rows, _TOKENS), jnp.float32)
    nothing = jnp.full((rows, _TOKENS), -jnp.inf)

    def over_tokens(visit: Callable, start: Any, unrolled: int = 1) -> Any:
        """What `visit(tokens, carry)` makes of `start`, called for all tokens of the rows, some at a time."""

        def some(step: Any, carry: Any) -> Any:
            for part in range(unrolled):
                first = pl.multiple_of((step * unrolled + part) * _TOKENS, _TOKENS)
                carry = visit(pl.ds(first, _TOKENS), carry)
            return carry

        return lax.fori_loop(0, padded // (_TOKENS * unrolled), some, start)

    def places(tokens: Any) -> jax.Array:
        return tokens.start + lax.broadcasted_iota(jnp.int32, (rows, _TOKENS), 1)

    def stream(number: int, tokens: Any) -> jax.Array:
        return jnp.where(places(tokens) < vocabulary, logits_RxV[number][:, tokens], -jnp.inf)

    cond = functools.partial(stream, 0)
    uncond = functools.partial(stream, -1)

    def ranked(tokens: Any) -> jax.Array:
        """What the rule's threshold is a threshold of."""
        if rule == "guided":
            streams = [stream(number, tokens) for number in range(len(logits_RxV))]
            mixed = rules.guide(streams, settings["guidance_scale"], settings["image_guidance_scale"])
            return mixed / settings["temperature"]
        return cond(tokens) / settings["temperature"] if rule == "top_p" else cond(tokens)

    def maxima(tokens: Any, carry: tuple) -> tuple:
        values = ranked(tokens)
        order_RxV[:, tokens] = thresholds.ordered_bits(values)
        return jnp.maximum(carry[0], cond(tokens)), jnp.maximum(carry[1], values)

    top_cond_Rx1, top_Rx1 = (x.max(axis=-1, keepdims=True) for x in over_tokens(maxima, (nothing, nothing)))

    def sums(tokens: Any, carry: tuple) -> tuple:
        weights = jnp.exp(thresholds.from_ordered_bits(order_RxV[:, tokens]) - top_Rx1)
        weights_RxV[:, tokens] = weights
        return carry[0] + jnp.exp(cond(tokens) - top_cond_Rx1), carry[1] + weights

    sum_cond_Rx1, sum_Rx1 = (x.sum(axis=-1, keepdims=True) for x in over_tokens(sums, (zeros, zeros)))

    def threshold(weights: Callable, target: Any) -> jax.Array:
        """The bits of the largest t with Σ weights of {values >= t} >= target; of -inf where there is none."""

        def reached(middle_Rx1: jax.Array, _: None) -> tuple[jax.Array, None]:
            def add(tokens: Any, sum_RxC: jax.Array) -> jax.Array:
                return sum_RxC + jnp.where(order_RxV[:, tokens] >= middle_Rx1, weights(tokens), 0.0)

            return over_tokens(add, zeros, unrolled).sum(axis=-1, keepdims=True) >= target, None

        # So little is done at a time that it would wait for its own results.
        unrolled = max(count for count in range(1, 9) if padded // _TOKENS % count == 0)
        return thresholds.bisect(reached, (rows, 1))[0]

    if rule in ("top_p", "guided"):
        least_Rx1 = threshold(lambda tokens: weights_RxV[:, tokens], settings["top_p"] * sum_Rx1)
    elif rule == "cdk":
        least_Rx1 = threshold(lambda tokens: 1.0, settings["cdk_k"])

    def scores(tokens: Any) -> jax.Array:
        match rule:
            case "plain":
                return cond(tokens) / settings["temperature"]
            case "greedy":
                return jnp.where(cond(tokens) == top_cond_Rx1, 0.0, -jnp.inf)
            case "top_p" | "guided":
                order = order_RxV[:, tokens]
                return jnp.where(order >= least_Rx1, thresholds.from_ordered_bits(order), -jnp.inf)
            case "contrastive" | "cdk":
                bar_Rx1 = thresholds.from_ordered_bits(least_Rx1) if rule == "cdk" else top_cond_Rx1
                return rules.contrast(cond(tokens), uncond(tokens), bar_Rx1, settings, normalize=lambda logits: logits)
        raise ValueError(f"the kernel does not know the rule {rule!r}")

    def draw(tokens: Any, carry: tuple) -> tuple:
        best, index, logit = carry
        noisy = scores(tokens) + gumbel(words_Rx2[...], places(tokens))
        better = noisy > best  # the first of equals, as argmax has it
        return (
            jnp.where(better, noisy, best),
            jnp.where(better, places(tokens), index),
            jnp.where(better, cond(tokens), logit),
        )

    first = pl.ds(0, _TOKENS)
    best, index, logit = over_tokens(draw, (nothing, places(first), cond(first)))
    index = jnp.where(best == best.max(axis=-1, keepdims=True), index, padded)
    drawn = index.min(axis=-1, keepdims=True)
    index_Rx1[...] = drawn
    logit_Rx1 = jnp.where(index == drawn, logit, -jnp.inf).max(axis=-1, keepdims=True)
    log_p_Rx1[...] = logit_Rx1 - top_cond_Rx1 - jnp.log(sum_cond_Rx1)
