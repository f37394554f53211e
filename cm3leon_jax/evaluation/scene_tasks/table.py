"""All tasks of the scenes: how examples are made, what is scored of an answer, what is true, and what a guess is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cm3leon_jax.data.scenes.tasks.example import Maker, Metadata
from cm3leon_jax.data.scenes.tasks.makers import MAKERS
from cm3leon_jax.data.scenes.world import Scene
from cm3leon_jax.evaluation.scene_tasks import readings
from cm3leon_jax.evaluation.scene_tasks.conditions import score_conditioned
from cm3leon_jax.evaluation.scene_tasks.counts import Scores
from cm3leon_jax.evaluation.scene_tasks.descriptions import score_captions, score_paragraphs
from cm3leon_jax.evaluation.scene_tasks.edit import score_edits
from cm3leon_jax.evaluation.scene_tasks.ground import score_grounded
from cm3leon_jax.evaluation.scene_tasks.science import most_frequent_option, score_reasoning
from cm3leon_jax.evaluation.scene_tasks.text_rendering import score_lettering
from cm3leon_jax.evaluation.scene_tasks.vqa import most_frequent, score_answers
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.instructions.tasks import TASKS

Output = Any  # a picture, uint8 [R, R, 3], or a text
Read = Callable[[Metadata, Scene], str]
Guess = Callable[[Sequence[Metadata], Sequence[Metadata]], list[str]]


@dataclasses.dataclass(frozen=True)
class SceneTask:
    """Examples are given by their metadata, as the source `scenes:DATA_DIR?task=NAME` gives it."""

    name: str
    score: Callable[[Sequence[Metadata], Sequence[Output]], Scores]  # examples, and an output for each
    headline: str  # the score that the others explain
    read: Read | None = None  # what to write by what a picture shows; None where the answer is a picture
    guess: Guess | None = None  # training examples, examples -> texts without looking at pictures

    @property
    def maker(self) -> Maker:
        return MAKERS[self.name]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of its template, pictures included."""
        return tuple(dict.fromkeys(field for template in TASKS[self.name].templates for field in template.fields))

    @property
    def draws(self) -> bool:
        """Whether its answer is a picture."""
        return self.read is None

    def pictures(self, examples: Sequence[Metadata], resolution: int) -> np.ndarray:
        """The true picture of each example that the answer is, or is about: uint8 [N, R, R, 3]."""
        return np.stack([self.maker.pictures(metadata, resolution)[-1] for metadata in examples])

    def truths(self, examples: Sequence[Metadata], resolution: int) -> list[Output]:
        """The true outputs."""
        if self.draws:
            return list(self.pictures(examples, resolution))
        answers = [field for field in TASKS[self.name].answers if field != "image"]
        return [" ".join(metadata[KEY]["fields"][field] for field in answers) for metadata in examples]


SCENE_TASKS: dict[str, SceneTask] = {
    task.name: task
    for task in (
        SceneTask("edit", score_edits, "both"),
        SceneTask("ground", score_grounded, "object"),
        SceneTask("segmentation", score_conditioned, "object"),
        SceneTask("canny", score_conditioned, "object"),
        SceneTask("text_rendering", score_lettering, "text"),
        SceneTask("caption", score_captions, "true", readings.describe),
        SceneTask("paragraph", score_paragraphs, "covered", readings.describe),
        SceneTask("vqa", score_answers, "answer", readings.answer_question, most_frequent),
        SceneTask("science", score_reasoning, "answer", readings.reason, most_frequent_option),
    )
}
