"""The three ways in which a folder says its captions: captions.jsonl, captions.csv, or a .txt beside each image."""

from __future__ import annotations

import collections
import csv
import io
import json
import pathlib
import posixpath
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry, bad_caption, leaves_folder, printable
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import open_to_read

IMAGE_KEYS = ("image", "file_name")
CAPTION_KEYS = ("caption", "text")
HOW_TO_CAPTION = "put captions.jsonl, captions.csv or a .txt beside each image there"


def read_entries(folder: pathlib.Path, images: list[str], files: set[str]) -> list[Entry]:
    """Captions of `images` (relative paths, sorted), one entry a caption, in the order of the file or of the paths.
    `files`: the paths of all files there.

    An image that has several captions gives several entries: `a.png`, `a.png#2`, … Raises `UserError`.
    """
    jsonl, table = folder / "captions.jsonl", folder / "captions.csv"
    if {jsonl.name, table.name} <= files:
        raise UserError(f"{folder} holds both captions.jsonl and captions.csv: keep one")
    try:
        if jsonl.name in files:
            rows: Iterator[Entry] = _from_rows(_jsonl_rows(jsonl), set(images))
        elif table.name in files:
            rows = _from_rows(_csv_rows(table), set(images))
        else:
            rows = _from_texts(folder, images, files)
        entries = list(rows)
    except OSError as error:
        raise UserError(f"the captions in {folder} cannot be read ({error.strerror}): check its permissions") from None
    if all(entry.reason for entry in entries):
        why = f" (the first: {entries[0].id}: {entries[0].reason})" if entries else ""
        raise UserError(f"{folder} holds {len(images)} images but no caption for any{why}: {HOW_TO_CAPTION}")
    return entries


def _jsonl_rows(path: pathlib.Path) -> Iterator[tuple[str, dict | str]]:
    """(name of the row, the row or the reason why it is none)."""
    with open_to_read(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            name = f"{path.name}:{number}"
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                yield name, f"not a line of JSON ({error})"
                continue
            yield name, row if isinstance(row, dict) else "not a JSON object"


def _csv_rows(path: pathlib.Path) -> Iterator[tuple[str, dict | str]]:
    try:
        with open_to_read(path) as file:
            reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
            header = reader.fieldnames or []
            if not set(header) & set(IMAGE_KEYS) or not set(header) & set(CAPTION_KEYS):
                raise UserError(f"{path} has no `image` and `caption` columns (it has {header}): give it a header row")
            for row in reader:
                row.pop(None, None)  # cells beyond the header
                yield f"{path.name}:{reader.line_num}", row
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}): save it as CSV in UTF-8") from None


def _from_rows(rows: Iterator[tuple[str, dict | str]], images: set[str]) -> Iterator[Entry]:
    seen: collections.Counter[str] = collections.Counter()
    for name, row in rows:
        if isinstance(row, str):
            yield Entry(name, reason=row)
            continue
        given = _first(row, IMAGE_KEYS)
        if not isinstance(given, str) or not given:
            yield Entry(name, reason=f"names no image ({' or '.join(IMAGE_KEYS)})")
            continue
        path = posixpath.normpath(given)
        seen[path] += 1
        id = printable(path) if seen[path] == 1 else f"{printable(path)}#{seen[path]}"
        caption = _first(row, CAPTION_KEYS)
        if reason := _bad_path(given, path, images) or bad_caption(caption, where=" or ".join(CAPTION_KEYS)):
            yield Entry(id, path, reason=reason, group=path)
        else:
            metadata = {key: value for key, value in row.items() if key not in IMAGE_KEYS + CAPTION_KEYS}
            yield Entry(id, path, caption.strip(), metadata, group=path)


def _from_texts(folder: pathlib.Path, images: list[str], files: set[str]) -> Iterator[Entry]:
    for path in images:
        caption, reason = "", ""
        text = posixpath.splitext(path)[0] + ".txt"
        try:
            if text in files:  # asking an object store for what is not there takes long
                caption = (folder / text).read_bytes().decode("utf-8-sig")
                reason = bad_caption(caption, where="")
            else:
                reason = "no caption: no .txt beside the image"
        except UnicodeDecodeError:
            reason = "the caption is not UTF-8"
        yield Entry(printable(path), path, caption.strip(), reason=reason, group=path)


def _first(row: dict, keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if key in row), None)


def _bad_path(given: str, path: str, images: set[str]) -> str:
    if leaves_folder(given):
        return "the path of the image leaves the folder: absolute paths and `..` are refused"
    return "" if path in images else "no image of a known type at this path"
