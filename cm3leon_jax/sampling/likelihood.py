"""How probable given answers are where a prompt has a hole: what ranks the candidates of a question.

What stands before the hole is read once for all candidates of a prompt (`model.cache.prefill_shared`), then all
candidates behind it, each in one pass.

Letters in names: G prompts, C candidates of each, B = G × C rows, P slots of a prompt, T slots of a candidate.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cm3leon_jax.documents import SequenceError, positions
from cm3leon_jax.model import cache as kv_cache
from cm3leon_jax.model import decoder
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.batches import bucket
from cm3leon_jax.sampling.prompts import DRAW_SPAN, DRAW_TEXT, Prompt
from cm3leon_jax.vocabulary import PAD_ID, Vocabulary

Batch = dict[str, Any]
"""before and its positions int32 [G, P], right-padded; lengths int32 [G] of them; tokens, positions and targets int32
[G, C, T], float32 weights [G, C, T]: 1 where a target counts."""


class Question(NamedTuple):
    """A prompt up to its hole, the id that ends the hole, and the candidates for it, ids [T] each."""

    before: np.ndarray
    end: int
    candidates: list[np.ndarray]

    @property
    def longest(self) -> int:
        return max(map(len, self.candidates))


def question_of(
    prompt: Prompt, candidates: Sequence[np.ndarray], vocabulary: Vocabulary, config: DecoderConfig
) -> Question:
    """Raises `UserError` unless the prompt has one hole, for a text, all candidates are texts, and the model holds the
    prompt with any of them."""
    holes = prompt.plan < 0
    kinds = set(prompt.plan[holes].tolist())
    if kinds not in ({DRAW_SPAN}, {DRAW_TEXT}) or not holes[: int(holes.sum())].all():
        raise UserError("answers are scored in one hole for a text; leave one, and give everything else")
    if not candidates:
        raise UserError("there are no answers to score; give one or more")
    if not all(vocabulary.is_text(candidate).all() for candidate in candidates):
        raise UserError("an answer to score holds ids that are no text pieces; encode it with the model's tokenizer")
    end = vocabulary.eoss_id if kinds == {DRAW_SPAN} else vocabulary.break_id
    question = Question(prompt.conditional[: prompt.start[0]], end, [np.asarray(each, np.int32) for each in candidates])
    length = int(_positions(question, vocabulary, config)[-1]) + 1
    if length > config.max_length:
        raise UserError(
            f"this with its longest answer takes {length} positions and the model holds {config.max_length}; shorten it"
        )
    return question


def batch_of(
    questions: Sequence[Question],
    groups: int,
    shape: tuple[int, int, int],
    vocabulary: Vocabulary,
    config: DecoderConfig,
) -> Batch:
    """Host arrays for `answer_logprobs`; the last question is repeated up to `groups`. `shape` is of `shape_of`."""
    slots, most, steps = shape
    batch: Batch = {
        "before": np.full((groups, slots), PAD_ID, np.int32),
        "before_positions": np.zeros((groups, slots), np.int32),
        "lengths": np.zeros(groups, np.int32),
        "tokens": np.full((groups, most, steps), PAD_ID, np.int32),
        "positions": np.zeros((groups, most, steps), np.int32),
        "targets": np.full((groups, most, steps), PAD_ID, np.int32),
        "weights": np.zeros((groups, most, steps), np.float32),
    }
    for group in range(groups):
        question = questions[min(group, len(questions) - 1)]
        # The last id before the hole is read with each candidate: the candidate's first is predicted there.
        shared, where = len(question.before) - 1, _positions(question, vocabulary, config)
        batch["before"][group, :shared], batch["before_positions"][group, :shared] = (
            question.before[:-1],
            where[:shared],
        )
        batch["lengths"][group] = shared
        batch["tokens"][group, :, 0] = question.before[-1]
        batch["positions"][group, :, : question.longest + 1] = where[shared:]
        for row, candidate in enumerate(question.candidates):
            length = len(candidate)
            batch["tokens"][group, row, 1 : length + 1] = candidate
            batch["targets"][group, row, : length + 1] = [*candidate, question.end]
            batch["weights"][group, row, : length + 1] = 1.0
    return batch


def shape_of(questions: Sequence[Question], config: DecoderConfig) -> tuple[int, int, int]:
    """Slots of a prompt, candidates, slots of a candidate: one shape for all, so that one program is compiled."""
    slots = bucket(max(len(question.before) - 1 for question in questions))
    steps = bucket(max(question.longest for question in questions) + 1)
    return min(slots, config.max_length), max(len(question.candidates) for question in questions), steps


@functools.partial(jax.jit, static_argnames=("config", "dtype", "partitioning"))
def answer_logprobs(
    params: decoder.Params,
    batch: Batch,
    *,
    config: DecoderConfig,
    dtype: str | None = None,
    partitioning: Partitioning = UNPARTITIONED,
) -> jax.Array:
    """-> float32 [G, C]: the logarithm, in nats, of the probability that the model writes just that candidate: the sum
    over its tokens and the id that ends the hole, among all ids, at temperature 1.

    `params` as `weights.sampling_params` makes them; `dtype` is the cache's, as `model.cache.init_cache` takes it.
    """
    groups, candidates, steps = batch["tokens"].shape
    rows = groups * candidates
    where: dict[str, Any] = {"config": config, "partitioning": partitioning}
    shared = kv_cache.prefill_shared(
        params, batch["before"], batch["lengths"], positions_GxP=batch["before_positions"], dtype=dtype, **where
    )
    cache = kv_cache.init_cache(config, rows, steps, dtype, shared=shared, partitioning=partitioning)
    tokens_BxT, positions_BxT, targets_BxT, weights_BxT = (
        batch[name].reshape(rows, steps) for name in ("tokens", "positions", "targets", "weights")
    )
    lengths_B = jnp.full(rows, steps, jnp.int32)
    hidden_BxTxD, _ = kv_cache.read(params, cache, tokens_BxT, lengths_B, positions_BxP=positions_BxT, **where)

    def logprob(step: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden_BxD, target_B = step
        logits_BxV = decoder.logits(params, hidden_BxD)
        hit_B = jnp.take_along_axis(logits_BxV, target_B[:, None], axis=1)[:, 0]
        return hit_B - jax.nn.logsumexp(logits_BxV, axis=1)

    # A step at a time, so that no more than [B, V] logits are in memory.
    found_TxB = jax.lax.map(logprob, (hidden_BxTxD.swapaxes(0, 1), targets_BxT.T))
    total_GxC = (found_TxB.T * weights_BxT).sum(axis=1).reshape(groups, candidates)
    return partitioning.constrain(total_GxC, None, None)


def _positions(question: Question, vocabulary: Vocabulary, config: DecoderConfig) -> np.ndarray:
    """Of what stands before the hole and of the longest candidate behind it; they are the same for shorter ones."""
    longest = max(question.candidates, key=len)
    # A <break> that ends the hole tells which document it is in.
    ids = np.concatenate([question.before, longest, [question.end]])
    try:
        return positions(ids, vocabulary, config.position_rule)[:-1]
    except SequenceError as error:
        raise UserError(str(error)) from None
