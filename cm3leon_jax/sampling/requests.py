"""What is asked for, as data: a JSON object a request, in files of requests and from the served page.

    {"prompt": "a red circle"}                                      pictures of a text
    {"image": "a.png"}                                              texts about a picture
    {"prompt": "a red circle", "image": "a.png", "mask": "m.png"}   what is white in the mask, drawn anew
    {"instruction": "make it blue", "image": "a.png"}               the picture changed
    {"task": "vqa", "image": "a.png", "question": "what is it?"}    what a task of `instructions/tasks.py` answers
    {"parts": [{"text": "a "}, {"hole": "text", "max_tokens": 8}, {"text": " circle"}, {"image": "a.png"}]}

Parts are those of `parts.py`, in the order in which they are read: `text`, `image` (with a `mask` or without), and
holes for a "text" or an "image". A task has those of its fields that are no answers, `prompt` being the caption, its
picture as `image`, and a number as `wording` if another than the first is wanted. Beside them: `id`, `retrieved`
(documents), `samples`, `max_tokens` of a text that is asked for, and `sampling`, fields of `SamplingConfig` that differ
from the common ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.parts import Continuation, HiddenCells, ImageHole, Part
from cm3leon_jax.sampling.prompts import TextHole
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.tasks import EDIT, task_parts
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer

MOST_SAMPLES = 1024  # of one request
_KINDS = ({"prompt"}, {"image"}, {"prompt", "image", "mask"}, {"instruction", "image"}, {"parts"})
_OPTIONS = {"id", "retrieved", "samples", "max_tokens", "sampling"}
_PART_KINDS = ({"text"}, {"text", "follows_at_once"}, {"image"}, {"image", "mask"}, {"hole"}, {"hole", "max_tokens"})


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """So many `samples` of what is missing among `parts`, behind so many `retrieved` documents. Pictures are uint8
    [R, R, 3], or codes."""

    parts: tuple[Part, ...]
    sampling: SamplingConfig
    task: str = ""  # whose `tasks.task_parts` the parts are
    retrieved: int = 0
    samples: int = 1
    id: str = ""

    @property
    def query(self) -> str:
        """What documents are retrieved for: the last text."""
        return next((part for part in reversed(self.parts) if isinstance(part, str)), "")


def with_codes(requests: Sequence[Request], image_tokenizer: ImageTokenizer) -> list[Request]:
    """The same with the codes of their pictures in place of these, encoded all together."""
    given = [part for request in requests for part in request.parts if isinstance(part, np.ndarray | HiddenCells)]
    pictures = [part.image if isinstance(part, HiddenCells) else part for part in given]
    codes = iter(image_tokenizer.encode(np.stack(pictures)) if pictures else ())

    def encoded(part: Part) -> Part:
        if isinstance(part, HiddenCells):
            return HiddenCells(next(codes), part.hidden)
        return next(codes) if isinstance(part, np.ndarray) else part

    return [dataclasses.replace(request, parts=tuple(map(encoded, request.parts))) for request in requests]


@dataclasses.dataclass(frozen=True)
class RequestReader:
    """Makes requests of JSON objects. What these leave out is as said here."""

    read_image: Callable[[str], np.ndarray]  # what stands for an image -> uint8 [R, R, 3], or UserError
    grid: tuple[int, int]  # of the image tokenizer: rows and columns of tokens
    sampling: SamplingConfig
    retrieved: int = 0
    samples: int = 1
    max_tokens: int = 64

    def read(self, row: Any) -> Request:
        """Raises `UserError`: unknown or missing keys, values that make no sense, images that cannot be read."""
        if not isinstance(row, dict):
            raise UserError(f"a request is a JSON object, such as {{'prompt': 'a red circle'}}, not {_short(row)}")
        if "task" not in row and row.keys() - _OPTIONS not in _KINDS:
            unknown = sorted(row.keys() - _OPTIONS - set().union(*_KINDS))
            what = f"unknown keys {', '.join(unknown)}" if unknown else f"keys {', '.join(sorted(row)) or 'missing'}"
            raise UserError(
                f"{what}; a request has prompt, image, prompt with image and mask, instruction with image, task with "
                f"its fields, or parts, and may have {', '.join(sorted(_OPTIONS))}"
            )
        if "instruction" in row:
            row = {"task": EDIT} | row
        return Request(
            self._parts(row),
            self._sampling(row),
            task=row.get("task", ""),
            retrieved=self._retrieved(row),
            samples=_number(row, "samples", self.samples, 1, MOST_SAMPLES),
            id=str(row.get("id", "")),
        )

    def _parts(self, row: Mapping[str, Any]) -> tuple[Part, ...]:
        if "task" in row:
            return tuple(self._task_parts(row))
        if "parts" in row:
            if not isinstance(row["parts"], list) or not row["parts"]:
                raise UserError(f"parts are a list of objects, such as {{'text': 'a'}}, not {_short(row['parts'])}")
            return tuple(self._part(part) for part in row["parts"])
        if "mask" in row:
            return _words(row, "prompt"), self._image(row)
        if "image" in row:
            return TextHole(self._most_tokens(row)), self._image(row)
        return _words(row, "prompt"), ImageHole()

    def _retrieved(self, row: Mapping[str, Any]) -> int:
        if "task" not in row:
            return _number(row, "retrieved", self.retrieved, 0, 16)
        # In training nothing is retrieved for instructions.
        if _number(row, "retrieved", 0, 0, 16):
            raise UserError("a task is asked for without retrieved documents; leave out retrieved")
        return 0

    def _task_parts(self, row: Mapping[str, Any]) -> list[Part]:
        names = row.keys() - _OPTIONS - {"task", "image", "wording"}
        return task_parts(
            _text(row, "task"),
            {name: _text(row, name) for name in row if name in names},
            [self.read_image(_text(row, "image"))] if "image" in row else [],
            wording=_number(row, "wording", 0, 0, 16) if "wording" in row else None,
            max_tokens=self._most_tokens(row),
        )

    def _most_tokens(self, row: Mapping[str, Any]) -> int:
        return _number(row, "max_tokens", self.max_tokens, 1, 4096)

    def _part(self, part: Any) -> Part:
        if not isinstance(part, dict) or part.keys() not in _PART_KINDS:
            raise UserError(
                f"a part is {{'text': …}}, {{'image': …}} or {{'hole': 'text' or 'image'}}, not {_short(part)}"
            )
        if "text" in part:
            return Continuation(_text(part, "text")) if part.get("follows_at_once") is True else _text(part, "text")
        if "image" in part:
            return self._image(part)
        if part["hole"] == "image" and "max_tokens" not in part:
            return ImageHole()
        if part["hole"] == "text":
            return TextHole(self._most_tokens(part))
        raise UserError(f"a hole is {{'hole': 'text', 'max_tokens': 8}} or {{'hole': 'image'}}, not {_short(part)}")

    def _image(self, row: Mapping[str, Any]) -> Part:
        image = self.read_image(_text(row, "image"))
        if "mask" not in row:
            return image
        return HiddenCells(image, hidden_cells(self.read_image(_text(row, "mask")).mean(axis=-1) > 127, self.grid))

    def _sampling(self, row: Mapping[str, Any]) -> SamplingConfig:
        wanted = row.get("sampling", {})
        fields = {field.name: field for field in dataclasses.fields(SamplingConfig)}
        if not isinstance(wanted, dict) or wanted.keys() - fields.keys():
            raise UserError(f"sampling is an object with some of {', '.join(fields)}, not {_short(wanted)}")
        for name, value in wanted.items():
            default = fields[name].default
            kinds = (int, float) if isinstance(default, float) else type(default)
            if not isinstance(value, kinds) or isinstance(value, bool) or value != value:
                raise UserError(f"sampling.{name} is {_short(value)}; it is like {default!r}")
        return dataclasses.replace(self.sampling, **wanted)


def hidden_cells(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Pixels that are to be hidden, bool [H, W] -> bool [rows, columns] of the token grid: every cell that they touch.

    H and W are multiples of the grid's.
    """
    rows, columns = grid
    height, width = mask.shape
    cells = np.asarray(mask, bool).reshape(rows, height // rows, columns, width // columns)
    return np.logical_or.reduce(cells, axis=(1, 3))


def _text(row: Mapping[str, Any], name: str) -> str:
    if not isinstance(row[name], str):
        raise UserError(f"{name} is a text, not {_short(row[name])}")
    return row[name]


def _words(row: Mapping[str, Any], name: str) -> str:
    text = _text(row, name)
    if not text.strip():
        raise UserError(f"{name} is empty; a picture is drawn from a text: write what it should show")
    return text


def _number(row: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = row.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UserError(f"{name} is {_short(value)}; it is a number from {least} to {most}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
