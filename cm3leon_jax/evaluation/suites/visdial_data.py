"""VisDial v1.0 as it is published: dialogs about pictures, each answer with a hundred candidates.

visdial_1.0_val.json: {"split": "val2018", "data": {"questions": [text, …], "answers": [text, …], "dialogs":
    [{"image_id", "caption", "dialog": [{"question", "answer", "answer_options": [100 numbers], "gt_index"}, …]}, …]}}
visdial_1.0_val_dense_annotations.json: [{"image_id", "round_id": 1 …, "gt_relevance": [100 numbers, 0 … 1]}, …]
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from collections import Counter
from typing import Any

import numpy as np

from cm3leon_jax.data.sources.images import UnreadableImage, decode_image, fit_image
from cm3leon_jax.data.sources.published.fields import integer, numbers, objects, read_list, read_object, text
from cm3leon_jax.data.sources.published.pictures import Pictures
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import as_path, files_below, fingerprint

_HINT = "a folder holds visdial_1.0_val.json, visdial_1.0_val_dense_annotations.json and VisualDialog's pictures"


@dataclasses.dataclass(frozen=True, eq=False)
class Round:
    """A question about a picture, with what was said before."""

    id: str  # of the picture and the round, counted from 1
    picture: str  # its place
    caption: str
    before: tuple[tuple[str, str], ...]  # questions with their answers
    question: str
    options: list[str]
    right: int  # among the options
    relevance: list[float] | None  # of each option, where people judged all of them


class Dialogs:
    """Rounds in their order; what cannot be used is counted by its reason."""

    def __init__(self, spec: str, rounds: list[Round], left_out: Counter[str], pictures: Pictures, fingerprint: str):
        self.spec, self.rounds, self.left_out, self.fingerprint = spec, rounds, left_out, fingerprint
        self._pictures = pictures

    def image(self, place: str, resolution: int) -> np.ndarray:
        """uint8 [R, R, 3]. Raises `UserError`."""
        try:
            return fit_image(decode_image(self._pictures.read(place)), resolution)
        except UnreadableImage as error:
            raise UserError(f"the picture {place} of {self.spec} cannot be used: {error}; copy it again") from None


def read_dialogs(spec: str) -> Dialogs:
    """`visdial:FOLDER`, or the folder alone. Raises `UserError` where a file is missing or of another form."""
    folder = as_path(spec.removeprefix("visdial:"))
    if not folder.is_dir():
        raise UserError(f"no folder {folder} for visdial: {_HINT}")
    below = files_below(folder)
    dialogs_at = _only(str(folder), below, "visdial_1.0_*.json", "*_dense_annotations.json")
    dense_at = _only(str(folder), below, "visdial_1.0_*_dense_annotations.json")
    pictures = Pictures(str(folder), below)
    found = read_object(dialogs_at, hint=_HINT, data=dict)
    relevance = _relevance(read_list(dense_at, hint=_HINT))
    rounds: list[Round] = []
    left_out: Counter[str] = Counter()
    for dialog in found["data"].get("dialogs") or ():
        try:
            rounds += _rounds(dialog, found["data"], str(found.get("split", "")), pictures, relevance)
        except (ValueError, IndexError, TypeError, KeyError) as error:
            left_out["no dialog of VisDial's form" if not isinstance(error, ValueError) else str(error)] += 1
    if not rounds:
        raise UserError(f"no dialog in {dialogs_at} can be used ({next(iter(left_out), 'there is none')}): {_HINT}")
    name = fingerprint([(each.id, each.options, each.relevance, pictures.state(each.picture)) for each in rounds])
    return Dialogs(spec, rounds, left_out, pictures, name)


def _only(folder: str, below: list[str], pattern: str, but: str = "") -> str:
    """The one file whose name matches `pattern` and not `but`."""
    names = [path for path in below if fnmatch.fnmatch(os.path.basename(path), pattern)]
    names = [path for path in names if not but or not fnmatch.fnmatch(os.path.basename(path), but)]
    if len(names) != 1:
        what = f"several files {pattern}" if names else f"no file {pattern}"
        raise UserError(f"{what} in {folder}: {_HINT}")
    return str(as_path(folder) / names[0])


def _relevance(rows: list[Any]) -> dict[tuple[int, int], list[float]]:
    """(picture, round from 1) -> the relevance of each option."""
    found = {}
    for row in rows:
        try:
            key = "gt_relevance" if "gt_relevance" in row else "relevance"
            found[integer(row, "image_id"), integer(row, "round_id")] = numbers(row, key, len(row[key]))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"a dense annotation of VisDial is of another form ({error}): {_HINT}") from None
    return found


def _rounds(
    dialog: dict[str, Any],
    data: dict[str, Any],
    split: str,
    pictures: Pictures,
    relevance: dict[tuple[int, int], list[float]],
) -> list[Round]:
    image = integer(dialog, "image_id")
    place = pictures.find(
        f"VisualDialog_{split}_{image:012d}.jpg", f"{image:012d}.jpg", f"COCO_train2014_{image:012d}.jpg"
    )
    rounds: list[Round] = []
    before: list[tuple[str, str]] = []
    for number, turn in enumerate(objects(dialog, "dialog"), start=1):
        question = data["questions"][integer(turn, "question")]
        if "answer_options" in turn and "gt_index" in turn:
            options = [data["answers"][each] for each in turn["answer_options"]]
            right, judged = integer(turn, "gt_index"), relevance.get((image, number))
            if right >= len(options) or (judged is not None and len(judged) != len(options)):
                raise ValueError("an answer is judged that is not among the options")
            rounds.append(
                Round(
                    f"{image}/{number}", place, text(dialog, "caption"), tuple(before), question, options, right, judged
                )
            )
        if "answer" in turn:
            before.append((question, data["answers"][integer(turn, "answer")]))
    return rounds
