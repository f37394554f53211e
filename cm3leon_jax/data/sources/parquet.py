"""Parquet tables with images in a column, as the Hugging Face Hub keeps data sets."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cm3leon_jax.data.sources.columns import Columns, split_columns
from cm3leon_jax.data.sources.entries import Entry, HeldOut, by_captions, printable
from cm3leon_jax.data.sources.files import FileSource
from cm3leon_jax.data.sources.images import UnreadableImage
from cm3leon_jax.data.sources.patterns import find_files, names_of
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import file_state, open_to_read


class Place(NamedTuple):
    """Where an image lies."""

    file: int
    group: int
    row: int  # of the group


def parquet_source(spec: str, held_out: HeldOut) -> FileSource:
    """`parquet:PATTERN?image=NAME&caption=NAME&id=NAME`; a folder of parquet files, braces or `*`, columns if need be.

    The image column holds bytes, or {bytes, path}; the caption column a text, or several: then each is an example.
    Of the other columns, those with texts, numbers and truth values are the metadata.
    """
    pattern, columns = split_columns(spec)
    files = find_files(pattern, ".parquet")
    names = names_of(files, ".parquet", instead=", or name a column of ids (?id=NAME)") if not columns.id else files
    try:  # a wrong name is better met before the work begins
        _columns_of(files[0], open_table(files[0]).schema_arrow, columns)
    except Damaged as damaged:
        raise UserError(f"{files[0]}: {damaged}: copy it again or leave it out") from None
    return FileSource(
        f"parquet:{spec}",
        files,
        names,
        functools.partial(_entries, columns=columns),
        _Tables(files, columns),
        held_out,
        settings=columns._asdict(),
        hint="look at its columns",
    )


class Damaged(Exception):
    """A file that is no parquet file, or a part of one; the message is the reason."""


def open_table(path: str) -> pq.ParquetFile:
    """Raises `Damaged`."""
    try:
        return pq.ParquetFile(open_to_read(path))
    except (pa.ArrowException, OSError) as error:
        raise Damaged(f"the file cannot be read as parquet ({' '.join(str(error).split())})") from None


def _columns_of(path: str, schema: pa.Schema, columns: Columns) -> Columns:
    """The columns' names in this file. `UserError` where one is missing, or holds no images."""
    columns = columns.found_in(schema.names, path)
    kind = schema.field(columns.image).type
    if not holds_images(kind):
        raise UserError(
            f"column {columns.image!r} of {path} holds {kind}, not images: bytes or {{bytes, path}} are needed"
        )
    return columns


def holds_images(kind: pa.DataType) -> bool:
    """Whether it is bytes, or {bytes, path}."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_plain(kind: pa.DataType) -> bool:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return is_text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _entries(number: int, path: str, name: str, columns: Columns) -> Iterator[Entry]:
    """The rows of one file; of a row with several captions, one entry each."""
    try:
        table = open_table(path)
    except Damaged as damaged:
        yield Entry(f"{name}.parquet", reason=str(damaged))
        return
    schema = table.schema_arrow
    columns = _columns_of(path, schema, columns)
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
            place, where = Place(number, group, row), f"column {columns.caption}"
            yield from by_captions(id, captions, place, values, where=where)
        first += table.metadata.row_group(group).num_rows


def image_bytes(image: Any) -> bytes:
    """Of a value of an image column. Raises `UnreadableImage` where there are none."""
    data = image.get("bytes") if isinstance(image, dict) else image
    if data is None:
        path = image.get("path") if isinstance(image, dict) else None
        raise UnreadableImage(f"the table holds no bytes, but a path ({path})" if path else "the image is null")
    return data


class _Tables:
    """Images in row groups, which can only be read as a whole: the last ones are kept."""

    def __init__(self, files: Sequence[str], columns: Columns):
        self._files, self._columns = files, columns
        self._group = functools.lru_cache(maxsize=4)(self._read_group)
        self._file_state = functools.cache(lambda number: file_state(files[number]))

    def read(self, place: Place) -> bytes:
        return image_bytes(self._group(place.file, place.group)[place.row].as_py())

    def state(self, place: Place) -> tuple:
        return (*self._file_state(place.file), *place)

    def _read_group(self, file: int, group: int) -> pa.ChunkedArray:
        try:
            table = open_table(self._files[file])
            column = _columns_of(self._files[file], table.schema_arrow, self._columns).image
            return table.read_row_group(group, columns=[column]).column(0)
        except (pa.ArrowException, OSError, Damaged) as error:
            raise UnreadableImage(f"the row group is damaged ({' '.join(str(error).split())})") from None
