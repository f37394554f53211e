"""Instructions as examples of a source: documents whose metadata says what they ask for, and which part is the answer.

Prepared and read like other documents, they carry the first of their wordings as their text; the tasks of fine-tuning
(`data/instruction_tasks.py`) word them anew each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cm3leon_jax.data.sources.entries import Entry
from cm3leon_jax.data.sources.example import NO_IMAGE, SourceExample
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.instructions.tasks import first_wording


def instruction(task: str, **fields: str | Sequence[str]) -> dict[str, Any]:
    """What an example of one of `instructions.tasks.TASKS` says: the texts of its fields, pictures left out. Of several
    texts for a field one is drawn each time that the example is used."""
    return {"task": task, "fields": fields}


def instruction_entry(
    id: str, said: Mapping[str, Any], places: Sequence[Any], metadata: Mapping[str, Any] | None = None, group: str = ""
) -> Entry:
    """`said`: `instruction(…)`, or `Instruction.to_dict()`. `places`: of its pictures, in order, as the store knows
    them. `ValueError` where their number is another than the instruction's."""
    pairs = _pairs(said, places, None)
    (text, place), *following = pairs
    return Entry(id, place, text, {**(metadata or {}), KEY: dict(said)}, following, group=group)


def instruction_example(
    id: str, said: Mapping[str, Any], images: Sequence[np.ndarray], metadata: Mapping[str, Any] | None = None
) -> SourceExample:
    """The same of pictures that are at hand, uint8 [H, W, 3]."""
    (text, image), *following = _pairs(said, images, NO_IMAGE)
    return SourceExample(id, image, text, {**(metadata or {}), KEY: dict(said)}, tuple(following))


def _pairs(said: Mapping[str, Any], images: Sequence[Any], none: Any) -> list[tuple[str, Any]]:
    wording = first_wording(said)
    if wording.images != len(images):
        raise ValueError(f"{len(images)} pictures, where the instruction has {wording.images}")
    given = iter(images)
    return [(document.text, next(given) if document.has_image else none) for document in wording.documents]
