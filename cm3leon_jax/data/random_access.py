"""Registered seqio tasks read by random access, which seqio's datasets cannot do."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import seqio

from cm3leon_jax.data.prepared_source import PreparedSource
from cm3leon_jax.data.preprocessors import Preprocessor
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary


class Sequence(NamedTuple):
    """One training sequence."""

    tokens: np.ndarray  # ids, int32 [length]
    retrieved: int  # documents before its own
    scored: np.ndarray | None = None  # bool [length]: ids that count in the loss; None: all
    may_be_cut: bool = True  # an instruction's hidden answers stand at its end


class RandomAccess:
    """A registered task read by (seed, epoch, index) instead of in order: what seqio gives for the same three."""

    def __init__(self, task: seqio.Task, split: str):
        source, preprocessors = task.source, task.preprocessors
        if not isinstance(source, PreparedSource) or not all(isinstance(step, Preprocessor) for step in preprocessors):
            raise UserError(f"task {task.name} cannot be read by random access: use a task of cm3leon_jax.data.tasks")
        if split not in source.splits:
            raise UserError(f"task {task.name} has no split {split!r}; it has {', '.join(source.splits)}")
        self.name = task.name
        self.vocabulary: Vocabulary = task.output_features["tokens"].vocabulary.vocabulary
        self._source, self._preprocessors, self._split = source, preprocessors, split

    def __len__(self) -> int:
        return self._source.num_input_examples(self._split)

    def sequence(self, seed: int, epoch: int, index: int) -> Sequence:
        example = self._source.read(self._split, index) | {"seed": seed, "epoch": epoch, "index": index}
        for preprocessor in self._preprocessors:
            example = preprocessor.step(example)
        scored = example.get("scored")
        return Sequence(
            example["tokens"],
            int(example["retrieved"][0]),
            None if scored is None else scored.astype(bool),
            may_be_cut="answers" not in example,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What its sequences depend on, JSON-able."""
        steps = [{"step": type(step).__name__} | step.settings for step in self._preprocessors]
        return {"split": self._split, "steps": steps} | self._source.settings


def tasks_and_rates(name: str) -> list[tuple[seqio.Task, float]]:
    """The tasks of a registered mixture with their shares of the examples (adding up to 1), or a task alone."""
    try:
        found = seqio.get_mixture_or_task(name)
    except ValueError:
        known = sorted([*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()])
        raise UserError(f"no task or mixture {name!r}; registered are: {', '.join(known) or 'none'}") from None
    if isinstance(found, seqio.Task):
        return [(found, 1.0)]
    rates = [found.get_rate(task) for task in found.tasks]
    return [(task, rate / sum(rates)) for task, rate in zip(found.tasks, rates, strict=True) if rate]


def sample_sequences(name: str, *, split: str, count: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """`count` sequences of a registered mixture or task, drawn at random -> (task's name, ids) of each."""
    rng = np.random.default_rng(seed)
    tasks = [(RandomAccess(task, split), rate) for task, rate in tasks_and_rates(name)]
    drawn = [tasks[int(number)][0] for number in rng.choice(len(tasks), count, p=[rate for _, rate in tasks])]
    return [(task.name, task.sequence(seed, 0, int(rng.integers(len(task)))).tokens) for task in drawn]
