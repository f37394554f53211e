"""Between what a score lies: what a perfect model would reach through a tokenizer, and what needs no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cm3leon_jax.data.scenes.reader import read_scene
from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.evaluation.scene_tasks.counts import Scores
from cm3leon_jax.evaluation.scene_tasks.table import SceneTask

RoundTrip = Callable[[np.ndarray], np.ndarray]


def ceiling(task: SceneTask, examples: Sequence[Metadata], resolution: int, round_trip: RoundTrip) -> Scores:
    """`round_trip`: pictures uint8 [N, R, R, 3] -> the same after the image tokenizer. The true pictures are scored
    behind it; where the answer is a text, the one that the scene reader's view of the picture behind it makes true."""
    pictures = round_trip(task.pictures(examples, resolution))
    if task.read is None:
        return task.score(examples, list(pictures))
    read = [read_scene(picture) for picture in pictures]
    return task.score(examples, [task.read(one, scene) for one, scene in zip(examples, read, strict=True)])


def baseline(task: SceneTask, training: Sequence[Metadata], examples: Sequence[Metadata], resolution: int) -> Scores:
    """What a task scores without a model: of questions, the answer that is most frequent in `training` for each kind of
    question; of edits, the unchanged picture; else the true picture or text of another example, the one before."""
    if task.name == "edit":
        return task.score(examples, [task.maker.pictures(metadata, resolution)[0] for metadata in examples])
    if task.guess is not None:
        return task.score(examples, task.guess(training, examples))
    truths = task.truths(examples, resolution)
    return task.score(examples, [*truths[-1:], *truths[:-1]])
