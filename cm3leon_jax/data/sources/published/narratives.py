"""Localized Narratives: long captions, spoken by people who pointed at what they said, of pictures of four data sets.

{"dataset_id": "mscoco_train2017", "image_id": "9", "annotator_id": 93, "caption": "In this image …", "traces": …}
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry
from cm3leon_jax.data.sources.files import FileSource
from cm3leon_jax.data.sources.instructions import instruction, instruction_entry
from cm3leon_jax.data.sources.patterns import names_of
from cm3leon_jax.data.sources.published.fields import integer, parse_json, text
from cm3leon_jax.data.sources.published.pictures import Pictures, coco_names, names_of_id
from cm3leon_jax.data.sources.published.request import Request, split_of
from cm3leon_jax.runtime.files import open_to_read

_LARGEST_LINE = 2**24  # bytes; traces of the mouse are most of a line


def narratives_source(request: Request) -> FileSource:
    """`localized_narratives:FOLDER`, or one of its files. An id is the data set's, the picture's and the annotator's;
    narratives of a picture are held out together."""
    files = request.files("narratives", "*narratives*.jsonl", first=True)
    if not files:
        request.file("narratives", "*narratives*.jsonl")
    pictures = request.pictures()

    def read(number: int, path: str, label: str) -> Iterator[Entry]:
        del number
        for count, row in _lines(path):
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                yield _entry(row, pictures, request.split)
            except ValueError as error:
                yield Entry(f"{label}:{count}", reason=str(error))

    return FileSource(
        request.spec, files, names_of(files, ".jsonl"), read, pictures, request.held_out, request.spec, request.hint
    )


def narratives_of(path: str) -> Iterator[tuple[str, str]]:
    """(image_id, narrative) of each line that has both."""
    for _, row in _lines(path):
        with contextlib.suppress(ValueError):
            if isinstance(row, dict):
                yield text(row, "image_id"), text(row, "caption")


def _lines(path: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(number, the line's object, or why it is none)."""
    with open_to_read(path) as file:
        for count, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if len(line) > _LARGEST_LINE:
                yield count, f"a line of {len(line)} bytes"
                continue
            try:
                row = parse_json(line)
            except ValueError as error:
                yield count, f"not a line of JSON ({' '.join(str(error).split())})"
                continue
            yield count, row if isinstance(row, dict) else "not a JSON object"


def _entry(row: dict[str, Any], pictures: Pictures, split: str) -> Entry:
    """`ValueError` where the row has no picture that is named, or no narrative."""
    of, image, annotator = text(row, "dataset_id"), text(row, "image_id"), integer(row, "annotator_id")
    group, names = image, names_of_id(image)
    if "coco" in of.lower():
        group, names = str(integer(row, "image_id")), coco_names(integer(row, "image_id"))
    elif "flickr" in of.lower():
        group = names[0]
    said = instruction("narrative", caption=text(row, "caption"))
    metadata = {"dataset_id": of, "image_id": image, "annotator_id": annotator, "split": split_of(of) or split}
    return instruction_entry(f"{of}/{image}/{annotator}", said, [pictures.find(*names)], metadata, group=group)
