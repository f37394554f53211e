"""Pictures with what they are to be drawn from: edges, segmentation maps, poses, …, as pictures too. In two forms:

ControlNet's: prompt.json with lines {"source": "source/0.png", "target": "target/0.png", "prompt": "…"}
pictures with captions, as `folder:` reads them, and ?conditions=FOLDER of pictures with the same stems
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cm3leon_jax.data.sources.captions import read_entries
from cm3leon_jax.data.sources.entries import Entry, EntrySource, printable, require_good
from cm3leon_jax.data.sources.folder import IMAGE_SUFFIXES
from cm3leon_jax.data.sources.instructions import instruction, instruction_entry
from cm3leon_jax.data.sources.published.fields import each_row, parse_json, text
from cm3leon_jax.data.sources.published.pictures import Pictures
from cm3leon_jax.data.sources.published.request import Request
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import as_path, files_below, open_to_read


def condition_source(request: Request) -> EntrySource:
    """`canny:FOLDER`, `depth:FOLDER?conditions=FOLDER` and so on; the kind is the task. An id is the path of the
    picture that is to be drawn."""
    request.refuse_split("these files")
    if "conditions" in request.options:
        return _of_folders(request)
    path = as_path(request.where) if as_path(request.where).is_file() else as_path(request.root) / "prompt.json"
    if not path.exists():
        raise UserError(f"no {path.name} in {request.root}: {request.hint}")
    pictures = request.pictures()

    def entries(row: dict[str, Any]) -> Iterator[Entry]:
        target = text(row, "target")
        try:
            said = instruction(request.kind, caption=text(row, "prompt"))
            yield instruction_entry(target, said, [pictures.at(text(row, "source")), pictures.at(target)])
        except ValueError as error:
            yield Entry(target, reason=str(error))

    return request.source(each_row(_lines(str(path)), path.name, entries), pictures)


def _lines(path: str) -> Iterator[Any]:
    """The value of each line; None for one that is not JSON."""
    with open_to_read(path) as file:
        for line in file:
            if line.strip():
                try:
                    yield parse_json(line)
                except ValueError:
                    yield None


def _of_folders(request: Request) -> EntrySource:
    conditions, files = request.path("conditions"), request.below
    if pathlib.PurePath(conditions).is_relative_to(request.root):
        inside = pathlib.PurePath(conditions).relative_to(request.root)
        files = [path for path in files if not pathlib.PurePath(path).is_relative_to(inside)]
    images = [path for path in files if path.lower().endswith(IMAGE_SUFFIXES)]
    listed = read_entries(as_path(request.root), images, set(files))
    below = files_below(conditions)
    by_stem = _by_stem(below)
    entries = [_with_condition(entry, request.kind, by_stem) for entry in listed]
    require_good(entries, request.spec, request.hint)
    store = _TwoFolders((Pictures(request.root, images), Pictures(conditions, below)))
    return EntrySource(request.spec, request.held_out.split(entries), store)


def _by_stem(paths: Sequence[str]) -> dict[str, str]:
    """Pictures by their paths without suffix; "" where several have one."""
    found: dict[str, str] = {}
    for path in paths:
        if path.lower().endswith(IMAGE_SUFFIXES):
            stem = os.path.splitext(path)[0]
            found[stem] = "" if stem in found else path
    return found


def _with_condition(entry: Entry, kind: str, by_stem: dict[str, str]) -> Entry:
    if entry.reason:
        return entry
    stem = os.path.splitext(entry.place)[0]
    if not by_stem.get(stem):
        reason = f"several conditions are called {printable(stem)}" if stem in by_stem else "no condition of its name"
        return Entry(entry.id, reason=reason, group=entry.group)
    said, places = instruction(kind, caption=entry.caption), [_Place(1, by_stem[stem]), _Place(0, entry.place)]
    return instruction_entry(entry.id, said, places, entry.metadata, group=entry.group)


class _Place(NamedTuple):
    folder: int
    path: str


class _TwoFolders:
    """Pictures of two folders."""

    def __init__(self, folders: Sequence[Pictures]):
        self._folders = folders

    def read(self, place: _Place) -> bytes:
        return self._folders[place.folder].read(place.path)

    def state(self, place: _Place) -> tuple[int, float]:
        return self._folders[place.folder].state(place.path)
