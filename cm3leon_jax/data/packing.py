"""Examples of any length -> rows of one length.

A row is a dict of arrays [L]: int32 tokens, targets (each the id behind its token), positions, segments and retrieved
(how many retrieved documents the example of each target has; 0 on padding), and float32 weights (1 where a target
counts in the loss, 0 on padding).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from cm3leon_jax.documents import COUNTED, PositionRule, SequenceError, positions
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import PAD_ID, Vocabulary

Row = dict[str, np.ndarray]
PACKINGS = ("straddle", "whole")


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One sequence, ids int32 [n], n >= 2. Of the ids, those that are learned and scored (bool [n]; all by default).
    `positions` [n] are the ids' indices unless given. `retrieved` documents stand before its query."""

    ids: np.ndarray
    scored: np.ndarray | None = None
    positions: np.ndarray | None = None
    retrieved: int = 0

    def pairs(self, length: int) -> int:
        """How many (token, target) pairs a row of `length` takes of it: an example longer than a row is cut at the
        row's end, and what was kept of it counts in the loss."""
        return min(len(self.ids) - 1, length)


def example_positions(ids: np.ndarray, vocabulary: Vocabulary, rule: PositionRule) -> np.ndarray | None:
    """`Example.positions` by the model's rule. `UserError`: the rule has no room for its documents."""
    if rule == COUNTED:
        return None
    try:
        return positions(ids, vocabulary, rule)
    except SequenceError as error:
        raise UserError(f"an example of the data does not fit: {error}") from None


def pack_straddling(
    examples: Iterable[Example], length: int, is_no_beginning: Callable[[np.ndarray], np.ndarray] | None = None
) -> Iterator[Row]:
    """Examples one behind the other, cut into blocks of length + 1 ids, as CM3Leon does: no mask between examples,
    and an example may lie across two rows. Every row is full; the ids behind the last whole block are left out.

    A block begins behind the one before, or after the ids there for which `is_no_beginning` is true (ids [n] -> bool
    [n]): such as those of an image, whose rest would have nothing before it.
    """
    positions, segments = np.arange(length, dtype=np.int32), np.ones(length, np.int32)
    held: list[np.ndarray] = []  # [3, n]: ids, the number of retrieved documents of each id's example, whether scored
    count = 0
    for example in examples:
        scored = np.ones(len(example.ids), bool) if example.scored is None else example.scored
        held.append(np.stack([example.ids, np.full_like(example.ids, example.retrieved), scored]))
        count += len(example.ids)
        if count <= length:
            continue
        joined = _from_beginning(np.concatenate(held, axis=1), is_no_beginning)
        while joined.shape[1] > length:
            (ids, retrieved, scored), joined = joined[:, : length + 1], joined[:, length + 1 :]
            joined = _from_beginning(joined, is_no_beginning)
            yield {
                "tokens": ids[:-1],
                "targets": ids[1:],
                "weights": scored[1:].astype(np.float32),
                "positions": positions,
                "segments": segments,
                "retrieved": retrieved[1:],
            }
        held, count = [joined], joined.shape[1]


def _from_beginning(joined: np.ndarray, is_no_beginning: Callable[[np.ndarray], np.ndarray] | None) -> np.ndarray:
    if is_no_beginning is None or not joined.shape[1] or not is_no_beginning(joined[0, :1])[0]:
        return joined
    passed = is_no_beginning(joined[0])
    return joined[:, joined.shape[1] if passed.all() else int(passed.argmin()) :]


def pack_whole(examples: Iterable[Example], length: int, lookahead: int) -> Iterator[Row]:
    """Whole examples only, several to a row, told apart by their segment numbers; positions restart in each.

    `lookahead` examples are held, and each row takes the oldest of them (so none waits for ever) with those others
    that fill the row best.
    """
    supply = iter(examples)
    held: list[Example] = []
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


def row_of(examples: Sequence[Example], length: int) -> Row:
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


def stack(rows: Sequence[Row]) -> Row:
    """Rows [L] -> a batch [B, L]."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
