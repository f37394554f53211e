"""Documents in which texts and images follow each other, as lines of JSON: also of text alone, or of several images.

{"id": "a12", "parts": [{"text": "Two cats."}, {"image": "a12/1.jpg"}, {"text": "They sleep."}], "url": …}

A document with "answers" is an instruction, for fine-tuning; they are places among its parts:

{"parts": [{"text": "How many cats?"}, {"text": "two"}, {"image": "a12/1.jpg"}], "answers": [1]}
"""

from __future__ import annotations

import functools
import json
import os
import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple

from cm3leon_jax.data.sources.entries import Entry, HeldOut, leaves_folder, printable
from cm3leon_jax.data.sources.files import FileSource
from cm3leon_jax.data.sources.images import UnreadableImage
from cm3leon_jax.data.sources.instructions import instruction_entry
from cm3leon_jax.data.sources.patterns import find_files, names_of
from cm3leon_jax.data.splits import DOCUMENT_SPLITS
from cm3leon_jax.instructions.instruction import from_parts
from cm3leon_jax.runtime.files import as_path, file_state, open_to_read

_LARGEST_LINE = 2**24  # bytes of JSON; images are files beside it


class Place(NamedTuple):
    """Where an image lies."""

    file: int
    path: str  # below the folder of the JSON lines


def documents_source(pattern: str, held_out: HeldOut) -> FileSource:
    """`documents:PATTERN`; a folder of .jsonl files, braces or `*`. Images are paths below the folder of their file.

    An id is the file's name and the document's own `id`, or the number of its line. Other keys are the metadata. One
    image with one text is an example like those of other sources; the others are in the splits "train.text" and
    "train.interleaved", and so on.
    """
    files = find_files(pattern, ".jsonl")
    names = names_of(files, ".jsonl")
    return FileSource(
        f"documents:{pattern}",
        files,
        names,
        _entries,
        _Files(files),
        held_out,
        settings=None,
        hint='a line needs "parts", each {"text": …} or {"image": …}',
        splits=DOCUMENT_SPLITS,
        images_apart=True,
    )


def _entries(number: int, path: str, name: str) -> Iterator[Entry]:
    with open_to_read(path) as file:
        for count, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{name}:{count}"
            try:
                if len(line) > _LARGEST_LINE:
                    raise ValueError(f"a line of {len(line)} bytes")
                row = json.loads(line.decode("utf-8-sig"))
                yield _entry(number, row, f"{name}/{_id(row, count)}")
            except (ValueError, RecursionError) as error:
                yield Entry(where, reason=" ".join(str(error).split()))


def _id(row: Any, count: int) -> str:
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return printable(str(row.get("id", count)))


def _entry(number: int, row: dict, id: str) -> Entry:
    """ValueError: it is no document."""
    parts = row.get("parts")
    if not isinstance(parts, list) or not parts:
        raise ValueError('no list "parts"')
    if "answers" in row:
        return _instruction(number, row, id)
    pairs: list[tuple[str, Place | None]] = []
    text = ""
    for part in parts:
        kind, value = next(iter(part.items())) if isinstance(part, dict) and len(part) == 1 else ("", None)
        if kind not in ("text", "image") or not isinstance(value, str) or not value.strip():
            raise ValueError(f'a part that is neither {{"text": …}} nor {{"image": …}}: {json.dumps(part)[:80]}')
        if kind == "text":
            if printable(value) != value:
                raise ValueError("a text is not valid Unicode")
            text = f"{text}\n{value.strip()}" if text else value.strip()
        else:
            pairs.append((text, _place(number, value)))
            text = ""
    if text:
        # A caption may stand behind its image.
        pairs = [(text, pairs[0][1])] if len(pairs) == 1 and not pairs[0][0] else [*pairs, (text, None)]
    (caption, place), *following = pairs
    metadata = {key: value for key, value in row.items() if key not in ("id", "parts")}
    return Entry(id, place, caption, metadata, following)


def _instruction(number: int, row: dict, id: str) -> Entry:
    """ValueError: it is none."""
    if not isinstance(row["answers"], list) or not row["answers"]:
        raise ValueError('"answers" is no list of places among the parts, one at least')
    said = from_parts(row["parts"], row["answers"]).to_dict()
    if not all(isinstance(part.get("image", ""), str) for part in row["parts"]):
        raise ValueError("an image is a path")
    places = [_place(number, part["image"]) for part in row["parts"] if "image" in part]
    metadata = {key: value for key, value in row.items() if key not in ("id", "parts", "answers")}
    return instruction_entry(id, said, places, metadata)


def _place(number: int, path: str) -> Place:
    if leaves_folder(path):
        raise ValueError(f"{path!r} leaves the folder: absolute paths and `..` are refused")
    return Place(number, posixpath.normpath(path))


class _Files:
    """Images as files beside those that name them."""

    def __init__(self, files: list[str]):
        self._folders = [os.path.dirname(file) for file in files]
        self._state = functools.lru_cache(maxsize=2**16)(file_state)

    def read(self, place: Place) -> bytes:
        path = as_path(self._path(place))
        if not path.is_file():
            raise UnreadableImage(f"no image at {place.path}")
        return path.read_bytes()

    def state(self, place: Place) -> tuple:
        return self._state(self._path(place))

    def _path(self, place: Place) -> str:
        return posixpath.join(self._folders[place.file] or ".", place.path)
