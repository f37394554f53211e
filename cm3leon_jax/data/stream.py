"""The training stream: the global batch of step n as a pure function of (data, seed, n), on any number of hosts.

The rows of a batch belong to *lanes*, of which there are more than hosts ever used. Each lane is a stream of its own,
and a host makes the rows of its contiguous share of them; how many hosts there are changes nothing but who makes which.

Where a lane stands after n steps depends on the lengths of all examples before, which only its own host knows. So lanes
start afresh at the first step of each *chapter* (`chapter_steps` steps), at a place that follows from the chapter's
number alone. The position to save is then nothing but the step: no host has to know of another's lanes, and any step
can be sought. Seeking replays at most one chapter of the host's own rows, some seconds.

In each chapter a lane deals from a *deck* of its own: as many examples as the chapter is expected to take, of each task
its share, in random order. A share is rounded up in some lanes and chapters and down in others, so that over all lanes
each task has exactly what it is due, however rare it is. Dealt or not, the next chapter goes on behind its deck; so a
chapter that needs less passes over the rest, and one that needs more reads into the next deck. Either is a few per
cent, of other examples in each epoch; in return there is no state. Over all lanes, the decks pass through a task's
examples in the order of a new permutation in each epoch.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

from cm3leon_jax.data.objective import Example, Objective, ObjectiveConfig
from cm3leon_jax.data.packing import Row, fits, ids_of_masks, pack, stack
from cm3leon_jax.data.random_access import RandomAccess, tasks_and_rates
from cm3leon_jax.data.randomness import keyed_rng, mixed, permuted
from cm3leon_jax.data.settings import StreamConfig
from cm3leon_jax.documents import COUNTED, PositionRule
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint

_DECK_STAGE = 0  # the preprocessors' stages count from 1
_SAMPLE = 512  # examples packed to learn how many a row takes: 2% accurate


def make_stream(
    name: str,
    config: StreamConfig,
    objective: ObjectiveConfig,
    *,
    answers_alone: bool = False,
    split: str = "train",
    process_index: int = 0,
    process_count: int = 1,
    position_rule: PositionRule = COUNTED,
) -> Stream:
    """The batches of a registered mixture or task -> `runtime.batches.MakeBatches`, this process's rows of each batch.

    `position_rule` is the model's; only whole examples have positions of their own. `answers_alone`: see `Objective`.
    """
    if position_rule != COUNTED and config.packing != "whole":
        raise UserError(
            "position_stride and query_position need StreamConfig.packing = 'whole': blocks that straddle count tokens"
        )
    return Stream(name, config, objective, answers_alone, split, process_index, process_count, position_rule)


class Stream:
    """Called with a position, or None for the beginning, it yields (batch, position behind it) without end.

    A batch is a dict of arrays [rows of this process, length], see `packing.py`. The position is {"step", "stream"}:
    the second names the data and all settings but the number of processes, and another one's position is refused.
    `fill` is the share of tokens that are not padding, `left_out` that of examples that are instructions too long for a
    row (packing "whole"), both measured on a sample.
    """

    def __init__(
        self,
        name: str,
        config: StreamConfig,
        objective: ObjectiveConfig,
        answers_alone: bool,
        split: str,
        process_index: int,
        process_count: int,
        rule: PositionRule,
    ):
        if config.lanes % process_count:
            raise UserError(f"{config.lanes} lanes do not divide among {process_count} processes; change lanes")
        self.config = config
        self._position_rule = rule
        share = config.lanes // process_count
        self._own_lanes = range(process_index * share, (process_index + 1) * share)
        self._lane_rows = config.batch_size // config.lanes
        mixture = tasks_and_rates(name)
        self._tasks = [RandomAccess(task, split) for task, _ in mixture]
        self._rates = [rate for _, rate in mixture]
        self._objective = Objective(self._tasks[0].vocabulary, objective, answers_alone)
        for task in self._tasks:
            if not len(task):
                raise UserError(f"task {task.name} has no examples in split {split!r}; prepare more data")
        named = {task.name: task.settings | {"rate": rate} for task, rate in zip(self._tasks, self._rates, strict=True)}
        self._fingerprint = fingerprint(
            dataclasses.asdict(config), dataclasses.asdict(rule), self._objective.settings, named
        )
        self._deck_size: float = _SAMPLE
        examples_per_row, self.fill = self._measure()
        self._deck_size = examples_per_row * self._lane_rows * config.chapter_steps / (1 - self.left_out)

    def __call__(self, position: dict | None = None) -> Iterator[tuple[Row, dict]]:
        step = 0 if position is None else self._step_of(position)
        chapter, done = divmod(step, self.config.chapter_steps)
        while True:
            lanes = [self._rows(lane, chapter) for lane in self._own_lanes]
            for rows in lanes:
                next(itertools.islice(rows, done * self._lane_rows, done * self._lane_rows), None)
            for _ in range(done, self.config.chapter_steps):
                batch = stack([row for rows in lanes for row in itertools.islice(rows, self._lane_rows)])
                step += 1
                yield batch, {"step": step, "stream": self._fingerprint}
            chapter, done = chapter + 1, 0

    def _step_of(self, position: dict) -> int:
        if position.get("stream") != self._fingerprint:
            raise UserError(
                "the data or its settings (tasks, rates, objective, batch, length, lanes, packing, seed) are not those "
                "that this run was begun with: use the same, or begin a new run in another folder"
            )
        return position["step"]

    def _rows(self, lane: int, chapter: int) -> Iterator[Row]:
        decks = itertools.chain.from_iterable(self._dealt(lane, deck) for deck in itertools.count(chapter))
        return pack(decks, self.config, self._objective, self._position_rule)

    def _dealt(self, lane: int, deck: int) -> Iterator[Example]:
        cards = [
            (task, card)
            for task in range(len(self._tasks))
            for card in range(self._cards_before(task, lane, deck), self._cards_before(task, lane, deck + 1))
        ]
        for place in keyed_rng(self.config.seed, _DECK_STAGE, deck, lane).permutation(len(cards)).tolist():
            yield self._example(lane, *cards[place])

    def _cards_before(self, task: int, lane: int, deck: int) -> int:
        """How many examples of a task a lane is dealt before this deck. Lanes round at different times: added up, this
        is the task's share of all that lanes are dealt, rounded down."""
        phase = (lane + mixed(self.config.seed, task)) % self.config.lanes
        return math.floor(deck * self._rates[task] * self._deck_size + phase / self.config.lanes)

    def _example(self, lane: int, task: int, card: int) -> Example:
        """A lane's `card`-th example of a task; lanes take turns in it."""
        examples = self._tasks[task]
        epoch, place = divmod(card * self.config.lanes + lane, len(examples))
        index = permuted(place, len(examples), mixed(self.config.seed, task, epoch))
        return examples.example(self.config.seed, epoch, index)

    def _measure(self) -> tuple[float, float]:
        """Packs a sample -> (examples a row takes, share of its tokens that are not padding)."""
        dealt = list(self._dealt(0, 0))
        sample = [example for example in dealt if fits(example, self.config, self._objective)]
        if not sample:
            raise UserError(f"no instruction fits into a row of {self.config.length} tokens; raise StreamConfig.length")
        self.left_out = 1 - len(sample) / len(dealt)
        rows = list(pack(sample, self.config, self._objective, self._position_rule))
        if self.config.packing == "straddle":
            # Counted in ids: of few rows, those before the first and behind the last would be too large a part.
            added = ids_of_masks(rows, self._objective.vocabulary) / max(1, len(rows))
            taken = (self.config.length + 1 - added) * len(sample) / sum(len(example.ids) for example in sample)
            return (taken if self.config.begin_inside_images or len(rows) < 20 else len(sample) / len(rows)), 1.0
        full = rows[:-1] or rows  # the last holds what was left
        taken = sum(int(row["segments"].max()) for row in full)
        return taken / len(full), sum(float((row["segments"] > 0).mean()) for row in full) / len(full)
