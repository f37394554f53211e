"""Registered seqio tasks read by random access, which seqio's datasets cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
import seqio

from cm3leon_jax.data.objective import Example
from cm3leon_jax.data.prepared_source import PreparedSource
from cm3leon_jax.data.preprocessors import Preprocessor, example_of
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary


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

    def example(self, seed: int, epoch: int, index: int) -> Example:
        features = self._source.read(self._split, index) | {"seed": seed, "epoch": epoch, "index": index}
        for preprocessor in self._preprocessors:
            features = preprocessor.step(features)
        return example_of(features)

    @property
    def settings(self) -> dict[str, Any]:
        """What its examples depend on, JSON-able."""
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


def sample_examples(name: str, *, split: str, count: int, seed: int) -> list[tuple[str, Example]]:
    """`count` examples of a registered mixture or task, drawn at random, each with its task's name."""
    rng = np.random.default_rng(seed)
    tasks = [(RandomAccess(task, split), rate) for task, rate in tasks_and_rates(name)]
    drawn = [tasks[int(number)][0] for number in rng.choice(len(tasks), count, p=[rate for _, rate in tasks])]
    return [(task.name, task.example(seed, 0, int(rng.integers(len(task))))) for task in drawn]
