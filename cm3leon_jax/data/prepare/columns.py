"""The keys of all documents and images, in a few files of one column each.

Documents and images are numbered through all parts: training splits first, then held-out ones, each by shard and row.
Of two duplicates the one with the smaller number is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.parts import (
    image_counts,
    part_sizes,
    read_images,
    read_labels,
    read_thumbnails,
)
from cm3leon_jax.data.prepare.signatures import SKETCH, THUMBNAIL
from cm3leon_jax.data.shards import BANK_SPLIT
from cm3leon_jax.data.splits import is_held_out
from cm3leon_jax.runtime.files import new_directory, read_json, write_json

FOLDER = "duplicates"
_COLUMNS_FOLDER, _PARTS_FILE = "columns", "parts.json"
_COLUMNS: dict[str, tuple[Any, tuple[int, ...]]] = {  # type and shape of a row
    "id_keys": (np.uint64, ()),
    "digests": (np.uint64, ()),
    "documents": (np.int64, ()),  # of each image
    "pixels": (np.uint64, ()),
    "sketches": (np.float16, (SKETCH,)),
}


class NumberedPart(NamedTuple):
    """A part and its numbers."""

    split: str
    shard: int
    documents: range
    images: range


def numbered_parts(job: Job) -> list[NumberedPart]:
    """All parts, in order, after `write_columns`."""
    rows = read_json(job.path(FOLDER, _PARTS_FILE), what="list of parts", make_with="cm3leon prepare")
    return [NumberedPart(split, shard, range(*documents), range(*images)) for split, shard, documents, images in rows]


def write_columns(job: Job) -> None:
    """Numbers all parts and writes all columns, unless it was done."""
    if job.path(FOLDER, _PARTS_FILE).exists():
        return
    parts = _number(job)
    with new_directory(job.path(FOLDER, _COLUMNS_FOLDER)) as aside, contextlib.ExitStack() as opened:
        files = {name: opened.enter_context(open(aside / name, "wb")) for name in _COLUMNS}
        for part in parts:
            images = read_images(job, part.shard, part.split)
            found = vars(read_labels(job, part.shard, part.split)) | vars(images)
            found["documents"] = part.documents.start + images.documents.astype(np.int64)
            for name, (dtype, _) in _COLUMNS.items():
                files[name].write(np.ascontiguousarray(found[name], dtype).tobytes())
    bounds = [[each.split, each.shard, *([part.start, part.stop] for part in each[2:])] for each in parts]
    write_json(job.path(FOLDER, _PARTS_FILE), bounds)


def _number(job: Job) -> list[NumberedPart]:
    sizes = {}
    for shard in range(len(job.shards)):
        counts = image_counts(job, shard)
        for split, documents in part_sizes(job, shard).items():
            sizes[is_held_out(split), split != BANK_SPLIT, split, shard] = documents, counts[split]
    parts, document, image = [], 0, 0
    for (_, _, split, shard), (documents, images) in sorted(sizes.items()):
        part = NumberedPart(split, shard, range(document, document + documents), range(image, image + images))
        parts.append(part)
        document, image = part.documents.stop, part.images.stop
    return parts


def column(job: Job, name: str) -> np.ndarray:
    """One of `_COLUMNS`, mapped from disk."""
    dtype, shape = _COLUMNS[name]
    path = job.path(FOLDER, _COLUMNS_FOLDER, name)
    if not path.stat().st_size:
        return np.zeros((0, *shape), dtype)
    return np.memmap(path, dtype, mode="r").reshape(-1, *shape)


def by_part(
    parts: list[NumberedPart], numbers: np.ndarray, *, of_images: bool = False
) -> Iterator[tuple[NumberedPart, slice, np.ndarray]]:
    """Each part that has some of the ascending `numbers` (of documents, or of images): where they are among them, and
    their rows in the part."""
    ranges = [part.images if of_images else part.documents for part in parts]
    stops = np.searchsorted(numbers, [each.stop for each in ranges]).tolist()
    for part, own, start, stop in zip(parts, ranges, [0, *stops], stops, strict=False):
        if stop > start:
            yield part, slice(start, stop), numbers[start:stop] - own.start


def thumbnails_of(job: Job, parts: list[NumberedPart], images: np.ndarray) -> np.ndarray:
    """Those of ascending images [n]: uint8 [n, THUMBNAIL]."""
    found = np.empty((len(images), THUMBNAIL), np.uint8)
    for part, here, rows in by_part(parts, images, of_images=True):
        found[here] = read_thumbnails(job, part.shard, part.split, rows)
    return found


def runs(values: np.ndarray) -> Iterator[np.ndarray]:
    """Of each value that occurs more than once, its indexes, ascending."""
    order = np.argsort(values, kind="stable")
    sorted_values = np.asarray(values)[order]
    same = np.concatenate([[False], sorted_values[1:] == sorted_values[:-1], [False]])
    starts, stops = np.flatnonzero(np.diff(same.astype(np.int8))).reshape(-1, 2).T
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        yield order[start : stop + 1]
