"""Examples of any length -> rows of one length, with spans hidden by the objective.

A row is a dict of arrays [L]: int32 tokens, targets (each the id behind its token), positions, segments and retrieved
(how many retrieved documents the example of each target has; 0 on padding), and float32 weights (1 where a target
counts in the loss, 0 on padding).

What a row holds follows from its examples alone, not from where they came from: the training stream and seqio's
converter (`seqio_rows.py`) make the same rows of the same examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cm3leon_jax.data.objective import Example, Objective
from cm3leon_jax.data.randomness import keyed_rng
from cm3leon_jax.data.settings import StreamConfig
from cm3leon_jax.documents import COUNTED, PositionRule, SequenceError, positions
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import PAD_ID, Vocabulary

Row = dict[str, np.ndarray]
_STAGE = (1 << 32) + 1  # of the random number, see `objective.py`


@dataclasses.dataclass(frozen=True, slots=True)
class ScoredExample:
    """One sequence as a row has it, ids int32 [n], n >= 2. Of the ids, those that are learned and scored (bool [n]; all
    by default). `positions` [n] are the ids' indices unless given. `retrieved` documents stand before its query."""

    ids: np.ndarray
    scored: np.ndarray | None = None
    positions: np.ndarray | None = None
    retrieved: int = 0

    def pairs(self, length: int) -> int:
        """How many (token, target) pairs a row of `length` takes of it: an example longer than a row is cut at the
        row's end, and what was kept of it counts in the loss."""
        return min(len(self.ids) - 1, length)


def pack(
    examples: Iterable[Example], config: StreamConfig, objective: Objective, rule: PositionRule = COUNTED
) -> Iterator[Row]:
    """Examples -> rows. Of "whole" ones, instructions that would lose their answers at a row's end are left out."""
    if config.packing == "straddle":
        return pack_straddling(examples, config.length, objective, begin_inside_images=config.begin_inside_images)
    fitting = (
        hide_in_example(each, config.length, objective, rule) for each in examples if fits(each, config, objective)
    )
    return pack_whole(fitting, config.length, config.lookahead)


def fits(example: Example, config: StreamConfig, objective: Objective) -> bool:
    """Whether a row has room for an example with its answers hidden, or may cut it: it may where there are none."""
    if config.packing == "straddle" or not example.answers:
        return True
    return objective.longest(example) <= config.length + 1


def hide_in_example(example: Example, length: int, objective: Objective, rule: PositionRule) -> ScoredExample:
    """An example as a row of `length` tokens takes it whole."""
    hidden = objective.hide_in_example(example, length + 1)
    places = example_positions(hidden.ids, objective.vocabulary, rule)
    return ScoredExample(hidden.ids, hidden.scored, places, example.retrieved)


def example_positions(ids: np.ndarray, vocabulary: Vocabulary, rule: PositionRule) -> np.ndarray | None:
    """`ScoredExample.positions` by the model's rule. `UserError`: the rule has no room for its documents."""
    if rule == COUNTED:
        return None
    try:
        return positions(ids, vocabulary, rule)
    except SequenceError as error:
        raise UserError(f"an example of the data does not fit: {error}") from None


def pack_straddling(
    examples: Iterable[Example], length: int, objective: Objective, *, begin_inside_images: bool
) -> Iterator[Row]:
    """Examples one after another, cut into blocks of length + 1 ids, as CM3Leon does: no mask between examples, and
    an example may lie across two rows. Every row is full; the ids behind the last whole block are left out.

    The first block begins at a random id: else blocks of one number, of which a batch consists, would all hold the same
    parts of their examples. A later block begins behind the one before, or, not to `begin_inside_images`, after the
    rest of the image there, which is left out.
    """
    vocabulary = objective.vocabulary
    places, segments = np.arange(length, dtype=np.int32), np.ones(length, np.int32)
    supply = iter(examples)
    if (first := next(supply, None)) is None:
        return
    held = [first]  # examples with ids from the next block's first on; in their ids, `begin` is that first one
    begin, end = _first_id(first, length), len(first.ids)
    while True:
        while held and begin >= len(held[0].ids):
            passed = len(held.pop(0).ids)
            begin, end = begin - passed, end - passed
        if end <= begin + length:
            if (example := next(supply, None)) is None:
                return
            held.append(example)
            end += len(example.ids)
            continue
        if not begin_inside_images and (rest := _rest_of_image(held, begin, vocabulary)):
            begin += rest
            continue
        hidden = objective.hide_in_block(held, begin, length + 1)
        begin += hidden.used
        scored = np.ones(length) if hidden.scored is None else hidden.scored[1:]
        yield {
            "tokens": hidden.ids[:-1],
            "targets": hidden.ids[1:],
            "weights": scored.astype(np.float32),
            "positions": places,
            "segments": segments,
            "retrieved": hidden.retrieved[1:],
        }


def _first_id(example: Example, length: int) -> int:
    return int(keyed_rng(example.key, _STAGE, 0, 0).integers(length + 1))


def _rest_of_image(examples: Sequence[Example], begin: int, vocabulary: Vocabulary) -> int:
    """How many of the ids from `begin` on are the rest of an image, all of which the first example has."""
    is_image = vocabulary.is_image(examples[0].ids[begin:])
    return len(is_image) if is_image.all() else int(is_image.argmin())


def pack_whole(examples: Iterable[ScoredExample], length: int, lookahead: int) -> Iterator[Row]:
    """Whole examples only, several to a row, told apart by their segment numbers; positions restart in each.

    `lookahead` examples are held, and each row takes the oldest of them (so none waits for ever) with those others
    that fill the row best.
    """
    supply = iter(examples)
    held: list[ScoredExample] = []
    while True:
        while len(held) < lookahead and (example := next(supply, None)) is not None:
            held.append(example)
        if not held:
            return
        taken = fullest_subset([example.pairs(length) for example in held], length)
        yield row_of([held[index] for index in taken], length)
        held = [example for index, example in enumerate(held) if index not in taken]


def fullest_subset(lengths: Sequence[int], room: int) -> list[int]:
    """Indices of lengths whose sum comes closest to `room` from below, the first length always among them.

    Exact: bit s of `sums[i]` says whether some of the lengths 1 … i−1 add up to s. Of equal fillings, the one with the
    earlier lengths is taken. Lengths are positive and lengths[0] <= room.
    """
    room -= lengths[0]
    within = (1 << (room + 1)) - 1
    reachable, sums = 1, []
    for length in lengths[1:]:
        sums.append(reachable)
        reachable |= (reachable << length) & within
    best = reachable.bit_length() - 1
    taken = [0]
    for index in range(len(lengths) - 1, 0, -1):
        if not sums[index - 1] >> best & 1:
            taken.append(index)
            best -= lengths[index]
    return sorted(taken)


def row_of(examples: Sequence[ScoredExample], length: int) -> Row:
    """Puts whole examples into one row; what is left is padding (segment 0, weight 0). No examples: an empty row."""
    row = {
        "tokens": np.full(length, PAD_ID, np.int32),
        "targets": np.full(length, PAD_ID, np.int32),
        "weights": np.zeros(length, np.float32),
        "positions": np.zeros(length, np.int32),
        "segments": np.zeros(length, np.int32),
        "retrieved": np.zeros(length, np.int32),
    }
    start = 0
    for number, example in enumerate(examples, start=1):
        pairs = example.pairs(length - start)
        stop = start + pairs
        row["tokens"][start:stop] = example.ids[:pairs]
        row["targets"][start:stop] = example.ids[1 : pairs + 1]
        row["weights"][start:stop] = 1 if example.scored is None else example.scored[1 : pairs + 1]
        row["positions"][start:stop] = np.arange(pairs) if example.positions is None else example.positions[:pairs]
        row["segments"][start:stop] = number
        row["retrieved"][start:stop] = example.retrieved
        start = stop
    return row


def ids_of_masks(rows: Sequence[Row], vocabulary: Vocabulary) -> int:
    """How many ids of the rows are not their examples': two sentinels and `<eoss>` of each span."""
    return 3 * sum(int((row["targets"] == vocabulary.eoss_id).sum()) for row in rows)


def stack(rows: Sequence[Row]) -> Row:
    """Rows [L] -> a batch [B, L]."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
