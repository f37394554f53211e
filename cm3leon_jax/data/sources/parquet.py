"""Parquet tables with images in a column, as the Hugging Face Hub keeps data sets."""

from __future__ import annotations

import functools
import os
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cm3leon_jax.data.sources.entries import Entry, EntrySource, bad_caption, printable
from cm3leon_jax.data.sources.images import UnreadableImage
from cm3leon_jax.data.sources.patterns import find_files
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import as_path, file_state
from cm3leon_jax.runtime.progress import progress

_IMAGE_NAMES = ("image", "jpg", "png", "webp", "img")
_CAPTION_NAMES = ("caption", "text", "captions", "sentences")


class Place(NamedTuple):
    """Where an image lies."""

    file: int
    group: int
    row: int  # of the group


class Columns(NamedTuple):
    """Names of columns; what they are called where none is given is looked for."""

    image: str = ""
    caption: str = ""
    id: str = ""  # unique values; else the file's name and the number of the row


def parquet_source(spec: str, *, validation_share: float, test_share: float) -> EntrySource:
    """`parquet:PATTERN?image=NAME&caption=NAME&id=NAME`; a folder of parquet files, braces or `*`, columns if need be.

    The image column holds bytes, or {bytes, path}; the caption column a text, or several: then each is an example.
    Of the other columns, those with texts, numbers and truth values are the metadata.
    """
    pattern, _, query = spec.partition("?")
    columns = _parse_columns(query, spec)
    files = find_files(pattern, ".parquet")
    names = [os.path.basename(file).removesuffix(".parquet") for file in files]
    if not columns.id and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{pattern} names two files {twice}.parquet: rename one, or name a column of ids (?id=NAME)")
    entries: list[Entry] = []
    for number, file in enumerate(progress(files, label="parquet files", total=len(files), unit="files", delay=2.0)):
        entries += _entries(number, file, names[number], columns)
    if all(entry.reason for entry in entries):
        why = f" (the first: {entries[0].id}: {entries[0].reason})" if entries else ""
        raise UserError(f"no row of {pattern} can be used{why}: look at its columns")
    return EntrySource(
        f"parquet:{spec}",
        entries,
        _Tables(files, columns),
        validation_share=validation_share,
        test_share=test_share,
    )


def _parse_columns(query: str, spec: str) -> Columns:
    given = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(given.keys() - set(Columns._fields)):
        raise UserError(f"{spec} has {unknown[0]}=: columns are named with {', '.join(Columns._fields)}")
    return Columns(**given)


def _open(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(as_path(path).open("rb"))
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as parquet ({reason}): copy it again or leave it out") from None


def _found(path: str, schema: pa.Schema, columns: Columns) -> Columns:
    """With the names as they are in this file. `UserError` where a column is missing."""

    def name(kind: str, given: str, usual: Sequence[str]) -> str:
        found = next((name for name in ([given] if given else usual) if name in schema.names), None)
        if found is None:
            wanted = f"no column {given!r}" if given else f"no {kind} column of a usual name ({', '.join(usual)})"
            raise UserError(f"{path} has {wanted}; it has {', '.join(schema.names)}: name one with ?{kind}=NAME")
        return found

    image = name("image", columns.image, _IMAGE_NAMES)
    kind = schema.field(image).type
    if not (_is_bytes(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)):
        raise UserError(f"column {image!r} of {path} holds {kind}, not images: bytes or {{bytes, path}} are needed")
    return Columns(image, name("caption", columns.caption, _CAPTION_NAMES), columns.id and name("id", columns.id, ()))


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_plain(kind: pa.DataType) -> bool:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return is_text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _entries(number: int, path: str, name: str, columns: Columns) -> Iterator[Entry]:
    """The rows of one file; of a row with several captions, one entry each."""
    table = _open(path)
    schema = table.schema_arrow
    columns = _found(path, schema, columns)
    metadata = [f.name for f in schema if _is_plain(f.type) and f.name not in columns]
    first = 0
    for group in range(table.num_row_groups):
        wanted = [each for each in (columns.caption, columns.id, *metadata) if each]
        try:
            rows = table.read_row_group(group, columns=wanted).to_pylist()
        except (pa.ArrowException, OSError) as error:
            yield Entry(f"{name}/group {group}", reason=f"the row group is damaged ({' '.join(str(error).split())})")
            rows = []
        for row, values in enumerate(rows):
            id = f"{name}/{first + row}" if not columns.id else printable(str(values.pop(columns.id)))
            captions = values.pop(columns.caption)
            for count, caption in enumerate(captions if isinstance(captions, list) else [captions]):
                each = id if not count else f"{id}#{count + 1}"
                if reason := bad_caption(caption, where=f"column {columns.caption}"):
                    yield Entry(each, reason=reason, group=id)
                else:
                    yield Entry(each, Place(number, group, row), caption.strip(), values, group=id)
        first += table.metadata.row_group(group).num_rows


class _Tables:
    """Images in row groups, which can only be read as a whole: the last ones are kept."""

    def __init__(self, files: Sequence[str], columns: Columns):
        self._files, self._columns = files, columns
        self._group = functools.lru_cache(maxsize=4)(self._read_group)
        self._file_state = functools.cache(lambda number: file_state(files[number]))

    def read(self, place: Place) -> bytes:
        image = self._group(place.file, place.group)[place.row].as_py()
        data = image.get("bytes") if isinstance(image, dict) else image
        if data is None:
            path = image.get("path") if isinstance(image, dict) else None
            raise UnreadableImage(f"the table holds no bytes, but a path ({path})" if path else "the image is null")
        return data

    def state(self, place: Place) -> tuple:
        return (*self._file_state(place.file), *place)

    def _read_group(self, file: int, group: int) -> pa.ChunkedArray:
        table = _open(self._files[file])
        column = _found(self._files[file], table.schema_arrow, self._columns).image
        try:
            return table.read_row_group(group, columns=[column]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableImage(f"the row group is damaged ({' '.join(str(error).split())})") from None
