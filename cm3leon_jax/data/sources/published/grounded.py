"""COCO's boxes and those of Objects365, which are of the same form.

instances_train2017.json: {"images": [{"id", "file_name", "width", "height"}, …], "categories": [{"id", "name"}, …],
    "annotations": [{"image_id", "category_id", "bbox": [left, top, width, height], "iscrowd"}, …]}
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry, EntrySource
from cm3leon_jax.data.sources.published.boxes import Box, ground_entry, grounding_of
from cm3leon_jax.data.sources.published.fields import each_row, integer, numbers, read_object, text
from cm3leon_jax.data.sources.published.pictures import coco_names
from cm3leon_jax.data.sources.published.request import Request


def coco_boxes_source(request: Request) -> EntrySource:
    """`coco_boxes:FOLDER?resolution=256&fit=crop&boxes=10`. An id is COCO's of the picture; its captions are those of
    captions_*.json, of which one is drawn each time, where that file is there."""
    captions: dict[str, list[str]] = collections.defaultdict(list)
    for path in request.files("captions", "captions_*.json"):
        for row in read_object(path, hint=request.hint, annotations=list)["annotations"]:
            if isinstance(row, dict) and isinstance(row.get("caption"), str) and row["caption"].strip():
                captions[str(row.get("image_id"))].append(row["caption"].strip())
    return _source(request, ("instances_*.json",), captions, coco_names)


def objects365_source(request: Request) -> EntrySource:
    """`objects365:FOLDER`, of the same form; there are no captions, but the names of the objects."""
    return _source(request, ("zhiyuan_objv2_*.json", "*objects365*.json"), {}, lambda _, given: (given,))


def _source(
    request: Request,
    patterns: tuple[str, ...],
    captions: dict[str, list[str]],
    names: Callable[[int, str], tuple[str, ...]],
) -> EntrySource:
    grounding = grounding_of(request)
    path = request.file("instances", *patterns, first=True)
    found = read_object(path, hint=request.hint, images=list, annotations=list, categories=list)
    classes = {str(row.get("id")): row.get("name") for row in found["categories"] if isinstance(row, dict)}
    boxes = collections.defaultdict(list)
    for row in found["annotations"]:
        if isinstance(row, dict) and not row.get("iscrowd"):  # a crowd is one box around many
            boxes[str(row.get("image_id"))].append(row)
    pictures = request.pictures()

    def entries(row: dict[str, Any]) -> Iterator[Entry]:
        image = integer(row, "id")
        try:
            size = integer(row, "width"), integer(row, "height")
            if not all(size):
                raise ValueError(f"a picture of {size[0]} x {size[1]} pixels")
            named = [_named(box, classes) for box in boxes[str(image)]]
            place = pictures.find(*names(image, text(row, "file_name")))
            metadata = {"image_id": image, "split": request.split, "width": size[0], "height": size[1]}
            yield ground_entry(str(image), place, size, named, captions.get(str(image), ()), grounding, metadata)
        except ValueError as error:
            yield Entry(str(image), reason=str(error))

    return request.source(each_row(found["images"], "images", entries), pictures)


def _named(row: dict[str, Any], classes: dict[str, Any]) -> tuple[str, Box]:
    """`ValueError` where it is no box, or of a class without a name."""
    left, top, width, height = numbers(row, "bbox", 4)
    return text({"name": classes.get(str(row.get("category_id")))}, "name").lower(), Box(
        left, top, left + width, top + height
    )
