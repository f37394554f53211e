"""The boxes of Open Images, with the captions that Localized Narratives gives its pictures, where they are there.

…annotations-bbox.csv: ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,…
…class-descriptions….csv: /m/011k07,Tortoise
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry, EntrySource, printable
from cm3leon_jax.data.sources.published.boxes import Box, ground_entry, grounding_of
from cm3leon_jax.data.sources.published.narratives import narratives_of
from cm3leon_jax.data.sources.published.pictures import names_of_id
from cm3leon_jax.data.sources.published.request import Request
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import open_to_read
from cm3leon_jax.runtime.progress import progress

_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")


def openimages_source(request: Request) -> EntrySource:
    """`openimages:FOLDER?resolution=256&fit=crop&boxes=10`. An id is that of the picture. The heads of all pictures are
    read, since boxes are shares of width and height, and what the model sees depends on both."""
    grounding = grounding_of(request)
    path = request.file("annotations", "*annotations-bbox*.csv", first=True)
    classes = _classes(request.file("classes", "*class-descriptions-boxable*.csv", "*class-descriptions*.csv"))
    captions: dict[str, list[str]] = {}
    for narratives in request.files("captions", "open_images*narratives*.jsonl"):
        for id, caption in narratives_of(narratives):
            captions.setdefault(id, []).append(caption)
    pictures = request.pictures()

    def entry(id: str, rows: list[dict[str, str]]) -> Entry:
        try:
            place = pictures.find(*names_of_id(id))
            size = pictures.size(place)
            named = [_named(row, classes, size) for row in rows if row.get("IsGroupOf") != "1"]
            metadata = {"image_id": id, "split": request.split, "width": size[0], "height": size[1]}
            return ground_entry(id, place, size, named, captions.get(id, ()), grounding, metadata)
        except ValueError as error:
            return Entry(id, reason=str(error))

    rows = itertools.groupby(_rows(path), key=lambda row: row["ImageID"])
    found = (entry(printable(id), list(of_image)) for id, of_image in rows)
    return request.source(progress(found, label="reading boxes", unit="pictures", delay=2.0), pictures)


def _rows(path: str) -> Iterator[dict[str, Any]]:
    """Of the table of boxes. `UserError` where it is none."""
    try:
        with open_to_read(path) as file:
            reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
            header = reader.fieldnames or []
            if missing := [name for name in _COLUMNS if name not in header]:
                raise UserError(f"{path} has no column {missing[0]}; it has {printable(', '.join(header))[:200]}")
            yield from reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}): copy it again") from None


def _classes(path: str) -> dict[str, str]:
    """{label: name}. `UserError` where the file has not two columns."""
    try:
        with open_to_read(path) as file:
            found = [row for row in csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline="")) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}): copy it again") from None
    if not found or any(len(row) != 2 for row in found):
        raise UserError(f"{path} is no table of labels and names, such as /m/011k07,Tortoise")
    return {label: name.strip().lower() for label, name in found}


def _named(row: dict[str, str], classes: dict[str, str], size: tuple[int, int]) -> tuple[str, Box]:
    """`ValueError` where the label has no name, or an edge is no share."""
    name = classes.get(row["LabelName"])
    if not name or printable(name) != name:
        raise ValueError(f"no class description of {printable(str(row['LabelName']))}")
    edges = [float(row[column] or "") for column in ("XMin", "YMin", "XMax", "YMax")]
    if not all(-0.01 <= edge <= 1.01 for edge in edges):  # rounding aside
        raise ValueError(f"the edges of a box are no shares from 0 to 1: {edges}")
    return name, Box(*(edge * length for edge, length in zip(edges, (*size, *size), strict=True)))
