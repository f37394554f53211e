"""Stanford's image paragraphs: a paragraph for each of some of Visual Genome's pictures.

paragraphs_v1.json: [{"image_id": 2356347, "paragraph": "…", "url": …}, …]
train_split.json, val_split.json, test_split.json: [2356347, …]
VG_100K/2356347.jpg or VG_100K_2/2356347.jpg
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry, EntrySource
from cm3leon_jax.data.sources.instructions import instruction, instruction_entry
from cm3leon_jax.data.sources.published.fields import each_row, integer, read_list, text
from cm3leon_jax.data.sources.published.pictures import names_of_id
from cm3leon_jax.data.sources.published.request import Request


def image_paragraph_source(request: Request) -> EntrySource:
    """`image_paragraph:FOLDER`. An id is that of the picture; without files of splits all paragraphs are read."""
    path = request.file("paragraphs", "paragraphs_v1.json", first=True)
    named = "split" in request.options or "ids" in request.options
    split = request.file("ids", f"{request.split}_split.json") if named else ""
    split = split or next(iter(request.files("ids", f"{request.split}_split.json")), "")
    wanted = {str(each) for each in read_list(split, hint=request.hint)} if split else None
    pictures = request.pictures()
    seen: collections.Counter[str] = collections.Counter()

    def entries(row: dict[str, Any]) -> Iterator[Entry]:
        image = str(integer(row, "image_id"))
        if wanted is not None and image not in wanted:
            return
        seen[image] += 1
        id = image if seen[image] == 1 else f"{image}#{seen[image]}"
        try:
            said = instruction("paragraph", caption=text(row, "paragraph"))
            metadata = {"image_id": int(image), "split": request.split if split else "all"}
            yield instruction_entry(id, said, [pictures.find(*names_of_id(image))], metadata, group=image)
        except ValueError as error:
            yield Entry(id, reason=str(error), group=image)

    return request.source(each_row(read_list(path, hint=request.hint), "rows", entries), pictures)
