"""COCO captions and Flickr30k, in their own files and in Karpathy's: each caption is an example of the task "caption".

captions_train2017.json: {"images": [{"id", "file_name"}, …], "annotations": [{"id", "image_id", "caption"}, …]}
dataset_coco.json, dataset_flickr30k.json: {"images": [{"filename", "split", "sentences": [{"raw"}, …]}, …]}
results_20130124.token: 1000092795.jpg#0⇥Two young guys …
results.csv: 1000092795.jpg| 0| Two young guys …
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry, EntrySource, printable
from cm3leon_jax.data.sources.instructions import instruction, instruction_entry
from cm3leon_jax.data.sources.published.fields import each_row, integer, kept, objects, read_object, text
from cm3leon_jax.data.sources.published.pictures import Pictures, coco_names
from cm3leon_jax.data.sources.published.request import Request
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import open_to_read

_LINE = re.compile(r"([^#|\t]+)(?:#(\d+)\s*\t|\|\s*(\d+)\s*\|)(.*)")
_HEADER = "image_name|"
_KARPATHY = {"restval": "train", "val": "val", "train": "train", "test": "test"}


def coco_captions_source(request: Request) -> EntrySource:
    """`coco_captions:FOLDER`. Ids are COCO's of the captions, or in Karpathy's file the picture's with a number;
    captions of a picture are held out together."""
    path = request.file("captions", "captions_*.json", "dataset_coco.json", first=True)
    found = read_object(path, hint=request.hint, images=list)
    pictures = request.pictures()
    if "annotations" not in found:
        return request.source(_of_karpathy(found["images"], request, pictures), pictures)
    if not isinstance(found["annotations"], list):
        raise UserError(f"{path} has 'annotations' that are no list: {request.hint}")
    names = {str(row.get("id")): row.get("file_name") for row in found["images"] if isinstance(row, dict)}

    def entries(row: dict[str, Any]) -> Iterator[Entry]:
        id, image = integer(row, "id"), integer(row, "image_id")
        given = names.get(str(image))
        metadata = {"image_id": image, "caption_id": id, "split": request.split}
        wanted = coco_names(image, given if isinstance(given, str) else "")
        yield _entry(str(id), str(image), row, "caption", pictures, wanted, metadata)

    return request.source(each_row(found["annotations"], "annotations", entries), pictures)


def flickr30k_source(request: Request) -> EntrySource:
    """`flickr30k:FOLDER`. Ids are 1000092795.jpg#0, …. Only Karpathy's file has splits."""
    path = request.file("captions", "dataset_flickr30k.json", "results_*.token", "results.csv", first=True)
    pictures = request.pictures()
    if path.endswith(".json"):
        found = read_object(path, hint=request.hint, images=list)
        return request.source(_of_karpathy(found["images"], request, pictures), pictures)
    request.refuse_split(f"files other than Karpathy's, such as {path},")
    return request.source(_of_lines(path, pictures), pictures)


def _of_karpathy(images: list[Any], request: Request, pictures: Pictures) -> Iterator[Entry]:
    """ "restval" is trained on, as everyone does."""

    def entries(row: dict[str, Any]) -> Iterator[Entry]:
        name, split = text(row, "filename"), _KARPATHY.get(text(row, "split"))
        if split is None:
            raise ValueError(f"'split' is none of {', '.join(_KARPATHY)}")
        if split != request.split:
            return
        group = str(row.get("cocoid", name))
        metadata = {"image_id": row.get("cocoid", name), "split": split, **kept(row, "imgid")}
        for number, sentence in enumerate(objects(row, "sentences")):
            wanted = name, f"{text(row, 'filepath', default='.')}/{name}"
            yield _entry(
                f"{name}#{number}", group, sentence, "raw", pictures, wanted, metadata | kept(sentence, "sentid")
            )

    return each_row(images, "images", entries)


def _of_lines(path: str, pictures: Pictures) -> Iterator[Entry]:
    with open_to_read(path) as file:
        for number, line in enumerate(file, start=1):
            read = line.decode("utf-8-sig", "replace")
            if not read.strip() or read.startswith(_HEADER):
                continue
            match = _LINE.fullmatch(read.strip())
            if match is None:
                where = f"{os.path.basename(path)}:{number}"
                yield Entry(where, reason="not NAME#NUMBER, a tab and a caption, nor NAME| NUMBER| CAPTION")
                continue
            image, row = match[1].strip(), {"caption": match[4]}
            id = f"{image}#{match[2] or match[3]}"
            yield _entry(id, image, row, "caption", pictures, (image,), {"image_id": image})


def _entry(
    id: str,
    image: str,
    row: dict[str, Any],
    key: str,
    pictures: Pictures,
    names: tuple[str, ...],
    metadata: dict[str, Any],
) -> Entry:
    """The caption that stands under `key` about the picture that has one of these names."""
    try:
        said = instruction("caption", caption=text(row, key))
        return instruction_entry(printable(id), said, [pictures.find(*names)], metadata, group=image)
    except ValueError as error:
        return Entry(printable(id), reason=str(error), group=image)
