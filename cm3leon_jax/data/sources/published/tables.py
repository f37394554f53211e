"""Tables of the Hugging Face Hub with one image column or several, of which each row is an example."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cm3leon_jax.data.sources.entries import Entry
from cm3leon_jax.data.sources.files import FileSource
from cm3leon_jax.data.sources.images import UnreadableImage
from cm3leon_jax.data.sources.parquet import Damaged, holds_images, image_bytes, open_table
from cm3leon_jax.data.sources.patterns import names_of
from cm3leon_jax.data.sources.published.request import Request
from cm3leon_jax.data.splits import DOCUMENT_SPLITS
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import file_state


class Place(NamedTuple):
    """Where an image lies."""

    file: int
    group: int
    row: int  # of the group
    column: str


# A row without its images, its id, and the places of its images -> its entry; None where it is no example.
MakeEntry = Callable[[dict[str, Any], str, list[Place]], Entry | None]


def table_source(
    request: Request, images: Sequence[str], texts: Sequence[str], make: MakeEntry, *, skip_without: str = ""
) -> FileSource:
    """Rows with these columns of images and texts, others besides. Of rows whose image in the column `skip_without` is
    null there is none. An id is the file's name and the number of the row. `make` may raise `ValueError`."""
    files = request.tables()
    labels = names_of(files, ".parquet")
    try:
        _check(files[0], open_table(files[0]).schema_arrow, images, texts)
    except Damaged as damaged:
        raise UserError(f"{files[0]}: {damaged}: copy it again or leave it out") from None

    def read(number: int, path: str, label: str) -> Iterator[Entry]:
        try:
            for group, first, row, values in _rows(path, label, images, texts, skip_without):
                if isinstance(values, Entry):
                    yield values
                    continue
                id = f"{label}/{first + row}"
                try:
                    entry = make(values, id, [Place(number, group, row, column) for column in images])
                except ValueError as error:
                    entry = Entry(id, reason=str(error))
                if entry is not None:
                    yield entry
        except Damaged as damaged:
            yield Entry(f"{label}.parquet", reason=str(damaged))

    settings = [request.spec, list(images)]
    return FileSource(
        request.spec, files, labels, read, _Tables(files), request.held_out, settings, request.hint, DOCUMENT_SPLITS
    )


def _check(path: str, schema: pa.Schema, images: Sequence[str], texts: Sequence[str]) -> None:
    """`UserError` where a column is missing, or holds no images."""
    for column in (*images, *texts):
        if column not in schema.names:
            raise UserError(f"{path} has no column {column!r}; it has {', '.join(schema.names)}: name other files")
        if column in images and not holds_images(schema.field(column).type):
            raise UserError(f"column {column!r} of {path} holds {schema.field(column).type}, not images")


def _rows(
    path: str, label: str, images: Sequence[str], texts: Sequence[str], skip_without: str
) -> Iterator[tuple[int, int, int, dict[str, Any] | Entry]]:
    """(group, number of its first row, row of the group, its values without images, or an entry that says what is wrong
    with the group). Raises `Damaged`."""
    table = open_table(path)
    _check(path, table.schema_arrow, images, texts)
    plain = [name for name in table.schema_arrow.names if name not in images]
    first = 0
    for group in range(table.num_row_groups):
        try:
            rows = table.read_row_group(group, columns=plain).to_pylist()
            there = _not_null(table.read_row_group(group, columns=[skip_without]).column(0)) if skip_without else None
        except (pa.ArrowException, OSError) as error:
            reason = f"the row group is damaged ({' '.join(str(error).split())})"
            yield group, first, 0, Entry(f"{label}/group {group}", reason=reason)
            rows = []
        for row, values in enumerate(rows):
            if there is None or there[row]:
                yield group, first, row, values
        first += table.metadata.row_group(group).num_rows


def _not_null(column: pa.ChunkedArray) -> list[bool]:
    """Whether there is an image in each row: neither the value nor all of its parts are null."""
    if not pa.types.is_struct(column.type):
        return column.is_valid().to_pylist()
    parts = [pc.struct_field(column, index).is_valid().to_pylist() for index in range(column.type.num_fields)]
    return [any(row) for row in zip(*parts, strict=True)]


class _Tables:
    """Images in row groups, which can only be read as a whole: the last ones are kept."""

    def __init__(self, files: Sequence[str]):
        self._files = files
        self._column = functools.lru_cache(maxsize=4)(self._read_column)
        self._file_state = functools.cache(lambda number: file_state(files[number]))

    def read(self, place: Place) -> bytes:
        return image_bytes(self._column(place.file, place.group, place.column)[place.row].as_py())

    def state(self, place: Place) -> tuple:
        return (*self._file_state(place.file), *place)

    def _read_column(self, file: int, group: int, column: str) -> pa.ChunkedArray:
        try:
            return open_table(self._files[file]).read_row_group(group, columns=[column]).column(0)
        except (pa.ArrowException, OSError, Damaged) as error:
            raise UnreadableImage(f"the row group is damaged ({' '.join(str(error).split())})") from None
