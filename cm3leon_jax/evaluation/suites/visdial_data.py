"""VisDial v1.0 as it is published: dialogs about pictures, each answer with a hundred candidates.

visdial_1.0_val.json: {"split": "val2018", "data": {"questions": [text, …], "answers": [text, …], "dialogs":
    [{"image_id", "caption", "dialog": [{"question", "answer", "answer_options": [100 numbers], "gt_index"}, …]}, …]}}
visdial_1.0_val_dense_annotations.json: [{"image_id", "round_id": 1 …, "gt_relevance": [100 numbers, 0 … 1]}, …]
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import os
from collections import Counter
from typing import Any

import numpy as np

from cm3leon_jax.data.sources.example import BadExample
from cm3leon_jax.data.sources.images import UnreadableImage, decode_image, fit_image
from cm3leon_jax.data.sources.published.fields import integer, numbers, objects, read_list, read_object, text
from cm3leon_jax.data.sources.published.pictures import Pictures
from cm3leon_jax.evaluation.suites.data import check_left_out
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


_Relevance = dict[tuple[int, int], list[float]]  # (picture, round from 1) -> of each option


class Dialogs:
    """Rounds in their order; dialogs that cannot be used are counted by their reasons."""

    def __init__(self, spec: str, pictures: Pictures):
        self.spec, self._pictures = spec, pictures
        self.rounds: list[Round] = []
        self.left_out: Counter[str] = Counter()
        self.count = 0  # of all dialogs
        self._first_bad = ""

    def add(self, dialog: Any, data: dict[str, Any], split: str, relevance: _Relevance) -> None:
        """The rounds of a dialog of the file, or a reason to leave it out."""
        self.count += 1
        try:
            self.rounds += _rounds(dialog, data, split, self._pictures, relevance)
        except BadExample as bad:
            self._first_bad = self._first_bad or str(bad)
            self.left_out[bad.reason] += 1

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the rounds and the states of their pictures, which are not read."""
        return fingerprint([(dataclasses.astuple(each), self._pictures.state(each.picture)) for each in self.rounds])

    def check(self, most_left_out: float) -> None:
        """`UserError` where more than that share of the dialogs cannot be used, or none can."""
        what = f"dialogs of {self.spec}"
        check_left_out(what, self.left_out.total(), self.count, most_left_out, self._first_bad)

    def image(self, place: str, resolution: int) -> np.ndarray:
        """uint8 [R, R, 3]. Raises `UserError`."""
        try:
            return fit_image(decode_image(self._pictures.read(place)), resolution)
        except (OSError, UnreadableImage) as error:
            reason = error.strerror or error if isinstance(error, OSError) else error
            raise UserError(f"{reason}; copy the picture again") from None


def read_dialogs(spec: str) -> Dialogs:
    """`visdial:FOLDER`, or the folder alone. Raises `UserError` where a file is missing or of another form."""
    folder = as_path(spec.removeprefix("visdial:"))
    if not folder.is_dir():
        raise UserError(f"no folder {folder} for visdial: {_HINT}")
    below = files_below(folder)
    dialogs_at = _only(str(folder), below, "visdial_1.0_*.json", "*_dense_annotations.json")
    dense_at = _only(str(folder), below, "visdial_1.0_*_dense_annotations.json")
    found = read_object(dialogs_at, hint=_HINT, data=dict)
    data, relevance = found["data"], _relevance(read_list(dense_at, hint=_HINT))
    for key in ("questions", "answers", "dialogs"):
        if not isinstance(data.get(key), list):
            raise UserError(f"the 'data' of {dialogs_at} has no {key!r} that is a list: {_HINT}")
    dialogs = Dialogs(spec, Pictures(str(folder), below))
    for dialog in data["dialogs"]:
        dialogs.add(dialog, data, str(found.get("split", "")), relevance)
    return dialogs


def _only(folder: str, below: list[str], pattern: str, but: str = "") -> str:
    """The one file whose name matches `pattern` and not `but`."""
    names = [path for path in below if fnmatch.fnmatch(os.path.basename(path), pattern)]
    names = [path for path in names if not but or not fnmatch.fnmatch(os.path.basename(path), but)]
    if len(names) != 1:
        what = f"several files {pattern}" if names else f"no file {pattern}"
        raise UserError(f"{what} in {folder}: {_HINT}")
    return str(as_path(folder) / names[0])


def _relevance(rows: list[Any]) -> _Relevance:
    found = {}
    for row in rows:
        try:
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
            key = "gt_relevance" if "gt_relevance" in row else "relevance"
            found[integer(row, "image_id"), integer(row, "round_id")] = numbers(row, key, len(row[key]))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"a dense annotation of VisDial is of another form ({error}): {_HINT}") from None
    return found


def _rounds(dialog: Any, data: dict[str, Any], split: str, pictures: Pictures, relevance: _Relevance) -> list[Round]:
    """The questions of a dialog that have candidates. Raises `BadExample`."""
    if not isinstance(dialog, dict):
        raise BadExample("a dialog", "not a JSON object")
    try:
        image = integer(dialog, "image_id")
        place, caption, turns = _picture(image, split, pictures), text(dialog, "caption"), objects(dialog, "dialog")
        rounds: list[Round] = []
        before: list[tuple[str, str]] = []
        for number, turn in enumerate(turns, start=1):
            question = _text_at(data["questions"], integer(turn, "question"))
            if "answer_options" in turn and "gt_index" in turn:
                options, right = _options(turn, data["answers"])
                judged = relevance.get((image, number))
                if judged is not None and len(judged) != len(options):
                    raise ValueError("an answer is judged that is not among the options")
                id_of_it = f"{image}/{number}"
                rounds.append(Round(id_of_it, place, caption, tuple(before), question, options, right, judged))
            if "answer" in turn:
                before.append((question, _text_at(data["answers"], integer(turn, "answer"))))
    except ValueError as error:
        raise BadExample(f"the dialog of picture {dialog.get('image_id')}", str(error)) from None
    return rounds


def _options(turn: dict[str, Any], answers: list[Any]) -> tuple[list[str], int]:
    """The candidates, and which of them is right. `ValueError`: they are of another form."""
    places, right = turn["answer_options"], integer(turn, "gt_index")
    if not isinstance(places, list) or not all(type(place) is int for place in places):
        raise ValueError("'answer_options' is no list of whole numbers")
    if right >= len(places):
        raise ValueError("'gt_index' is none of the options")
    return [_text_at(answers, place) for place in places], right


def _text_at(texts: list[Any], place: int) -> str:
    """`ValueError`: no text is there."""
    if not 0 <= place < len(texts) or not isinstance(texts[place], str):
        raise ValueError("a number that is of no question or answer")
    return texts[place]


def _picture(image: int, split: str, pictures: Pictures) -> str:
    """Where the picture is. Raises `BadExample`, whose reason is the same for all pictures."""
    number = f"{image:012d}.jpg"
    try:
        return pictures.find(f"VisualDialog_{split}_{number}", number, f"COCO_train2014_{number}")
    except ValueError as error:
        raise BadExample(str(error), "a dialog's picture is missing") from None
