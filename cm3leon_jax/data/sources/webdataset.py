"""WebDataset: tar files in which the parts of an example follow each other, as img2dataset writes them.

    000000012.jpg  000000012.txt  000000012.json  000000013.jpg …

What comes before the first dot of a name is the example's key; what follows says which part it is. A tar is read once
from its beginning, its images passed over; then an image is read from its place.
"""

from __future__ import annotations

import functools
import itertools
import json
import posixpath
import tarfile
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cm3leon_jax.data.sources.entries import Entry, HeldOut, bad_caption, leaves_folder, printable
from cm3leon_jax.data.sources.files import FileSource
from cm3leon_jax.data.sources.images import UnreadableImage
from cm3leon_jax.data.sources.patterns import find_files, names_of
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import file_state, open_to_read

IMAGE_PARTS = ("jpg", "jpeg", "png", "webp")
_LARGEST_TEXT = 2**20  # bytes of a caption or of metadata


class Place(NamedTuple):
    """Where an image lies."""

    file: int
    offset: int
    size: int


def webdataset_source(pattern: str, held_out: HeldOut) -> FileSource:
    """`webdataset:PATTERN`, such as `webdataset:DATA/{00000..00099}.tar`, a folder of tar files, or `*`.

    An id is the name of the tar file without its suffix and the key. The caption is the `.txt`, or `caption` of the
    `.json`, which is the metadata otherwise.
    """
    files = find_files(pattern, ".tar")
    names = names_of(files, ".tar")
    return FileSource(
        f"webdataset:{pattern}",
        files,
        names,
        _entries,
        _Tars(files),
        held_out,
        settings=None,
        hint=f"a key needs an image ({', '.join(IMAGE_PARTS)}) and a .txt or `caption` in a .json",
    )


def _entries(number: int, path: str, name: str) -> Iterator[Entry]:
    """The examples of one tar file; what is wrong with it is an entry with a reason."""
    with open_to_read(path) as file:
        if file.read(2) == b"\x1f\x8b":
            raise UserError(f"{path} is compressed: gunzip it, so that single images can be read from it")
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for key, members in itertools.groupby(_members(tar), key=lambda member: _split_name(member.name)[0]):
                    yield _entry(tar, members, number, f"{name}/{printable(key)}")
        except (tarfile.TarError, EOFError, ValueError) as error:
            yield Entry(f"{name}.tar", reason=f"the tar file is damaged ({' '.join(str(error).split())})")


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
        if not member.isdir():
            yield member


def _split_name(name: str) -> tuple[str, str]:
    """The key and the part: of "below/12.Seg.PNG" ("below/12", "seg.png")."""
    folder, base = posixpath.split(name)
    key, _, part = base.partition(".")
    return posixpath.join(folder, key), part.lower()


def _entry(tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo], number: int, id: str) -> Entry:
    place, caption, metadata, reason = None, None, {}, ""
    for member in members:
        part = _split_name(member.name)[1]
        try:
            _check(member)
            if part in IMAGE_PARTS:
                place = Place(number, member.offset_data, member.size)
            elif part == "txt":
                caption = _text(tar, member)
            elif part == "json":
                metadata = json.loads(_text(tar, member))
                if not isinstance(metadata, dict):
                    raise ValueError("the metadata is not a JSON object")
        except (ValueError, RecursionError) as error:
            reason = reason or f"{printable(member.name)}: {' '.join(str(error).split())}"
    if isinstance(metadata, dict):
        in_metadata = metadata.pop("caption", None)
        caption = in_metadata if caption is None else caption
    reason = reason or ("" if place else f"no image ({', '.join(IMAGE_PARTS)})")
    reason = reason or bad_caption(caption, where="neither .txt nor `caption` in .json")
    return Entry(id, reason=reason) if reason else Entry(id, place, caption.strip(), metadata)


def _check(member: tarfile.TarInfo) -> None:
    """ValueError for what no one writes who means well."""
    if leaves_folder(member.name):
        raise ValueError("the name leaves the folder: absolute names and `..` are refused")
    if not member.isreg() or member.issparse():
        raise ValueError("links, devices and sparse files are refused")


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > _LARGEST_TEXT:
        raise ValueError(f"{member.size} bytes of text")
    data = tar.extractfile(member)
    assert data is not None  # a regular file, by `_check`
    return data.read().decode("utf-8-sig")


class _Tars:
    """Images inside tar files."""

    def __init__(self, files: Sequence[str]):
        self._files = files
        self._file_state = functools.cache(lambda number: file_state(files[number]))
        self._open = threading.local()  # the file that a thread has read from last: the next image often is in it, too

    def read(self, place: Place) -> bytes:
        if getattr(self._open, "number", None) != place.file:
            self._open.file = open_to_read(self._files[place.file])
            self._open.number = place.file
        self._open.file.seek(place.offset)
        data = self._open.file.read(place.size)
        if len(data) < place.size:
            raise UnreadableImage("the tar file ends inside the image")
        return data

    def state(self, place: Place) -> tuple:
        return (*self._file_state(place.file), *place)
