"""The paper's fine-tuning tasks with their templates (CM3Leon §4 and its table of data sets)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cm3leon_jax.instructions.instruction import Instruction, from_parts
from cm3leon_jax.instructions.template import Template
from cm3leon_jax.runtime.errors import UserError

EDIT = "Edit first image following the instruction"  # stands before the picture that is to be changed


@dataclasses.dataclass(frozen=True)
class InstructionTask:
    """`patterns` say the same in different words. `examples`: how many the paper has of it. `optional`: fields that
    may be empty, and what stands there then."""

    patterns: tuple[str, ...]
    answers: tuple[str, ...]
    examples: int = 0
    optional: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def templates(self) -> tuple[Template, ...]:
        templates = tuple(Template(pattern, frozenset(self.answers), self.optional) for pattern in self.patterns)
        assert len({template.images for template in templates}) == 1  # pictures are kept in this order
        return templates

    @property
    def images(self) -> tuple[str, ...]:
        return self.templates[0].images


def _condition(name: str, examples: int) -> InstructionTask:
    pattern = f"Make high quality image from {name} <break> {{image_condition}} <break> {{caption}} <break> {{image}}"
    return InstructionTask((pattern,), ("image",), examples)


_DESCRIBE = "Describe the given picture. {caption} <break> {image}"
_DETAILED = (
    "Describe the given picture in very detail. {caption} <break> {image}",
    "Describe all the objects in the given image in very detail. {caption} <break> {image}",
    "Generate a long caption for the given image. {caption} <break> {image}",
    "Generate a long narration of what is happening in the given image. {caption} <break> {image}",
)
_QUESTION = (
    "Question: {question} Answer: {answer}. <break> {image}",
    "Question: {question}\n{answer} <break> {image}",
    "Question: {question} The answer is {answer}. <break> {image}",
)
_CHOICE = "Question: {question}\nContext: {context}\nOptions: {choices}\nAnswer: "

TASKS: dict[str, InstructionTask] = {
    "edit": InstructionTask(
        (f"{EDIT} <break> {{image_before}} <break> {{instruction}} <break> {{image}}",), ("image",), 127_000
    ),
    "text_rendering": InstructionTask(('draw "{text}" <break> {image}',), ("image",), 300_000),
    "ground": InstructionTask(
        ("Generate high quality image of {caption} with segmentations {objects} <break> {image}",),
        ("image",),
        3_000_000,
    ),
    "canny": _condition("canny edge", 1_000_000),
    "segmentation": _condition("segmentation map", 1_000_000),
    "hed": _condition("hed", 1_000_000),
    "pose": _condition("openpose", 142_000),
    "depth": _condition("depth", 1_000_000),
    "normal": _condition("3D norm", 1_000_000),
    "scribble": _condition("children's scribbles", 500_000),
    "caption": InstructionTask(("{caption} <break> {image}", _DESCRIBE), ("caption",), 591_000 + 144_000),
    "paragraph": InstructionTask(_DETAILED, ("caption",), 14_000),
    "narrative": InstructionTask(_DETAILED, ("caption",), 164_000),
    "vqa": InstructionTask(_QUESTION, ("answer",), 1_300_000 + 92_000 + 26_000),
    "science": InstructionTask(
        (
            f"{_CHOICE}{{answer}}. <break> {{image}}",
            f"{_CHOICE}Let's think step-by-step: {{explanation}} So the answer is {{answer}}. <break> {{image}}",
        ),
        ("explanation", "answer"),
        6_000,
        optional={"context": "N/A"},  # as the data set's authors write it
    ),
}


def find_task(name: str) -> InstructionTask:
    """`UserError` where there is none of that name."""
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]


def wordings(instruction: Mapping[str, Any]) -> Sequence[Template | Instruction]:
    """What stands under `instruction.KEY` -> the ways to say it: templates whose fields are all there, or itself.

    It is {"task": …, "fields": {name: text, or several texts of which one is drawn}}, or `Instruction.to_dict`.
    """
    if "task" not in instruction:
        return [from_parts(instruction["parts"], instruction["answers"])]
    found = [t for t in find_task(instruction["task"]).templates if instruction["fields"].keys() >= set(t.texts)]
    if not found:
        raise UserError(f"an example of {instruction['task']} has only the fields {', '.join(instruction['fields'])}")
    return found


def draw_wording(instruction: Mapping[str, Any], rng: np.random.Generator) -> Instruction:
    """One of the wordings, each as likely, with one of the texts of each field."""
    found = wordings(instruction)
    wording = found[int(rng.random() * len(found))]
    if isinstance(wording, Instruction):
        return wording
    fields = {name: text if isinstance(text, str) else text[int(rng.random() * len(text))]
              for name, text in instruction["fields"].items()}  # fmt: skip
    return wording.fill(fields)


def first_wording(instruction: Mapping[str, Any]) -> Instruction:
    """The first of the wordings, with the first of the texts of each field."""
    wording = wordings(instruction)[0]
    if isinstance(wording, Instruction):
        return wording
    return wording.fill(
        {name: text if isinstance(text, str) else text[0] for name, text in instruction["fields"].items()}
    )


def texts_to_learn(instruction: Mapping[str, Any], number: int) -> list[str]:
    """The texts of one of the wordings, of another with another number: what a text tokenizer is trained on, which is
    to know all of them."""
    drawn = draw_wording(instruction, np.random.default_rng(number))
    return [document.text for document in drawn.documents if document.texts]
