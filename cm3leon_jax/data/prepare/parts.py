"""What the first stage of preparing leaves of each shard of the source and split: a part, in a few files.

`labels.msgpack`, `images.msgpack` and `thumbnails.npy` are little, and all that looking for duplicates reads;
`documents.msgpack` is the rest. The parts of a shard are written all or none.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, Self

import msgpack
import numpy as np

from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.runtime.files import new_directory, read_json, write_json

_SUMMARY_FILE = "summary.json"


@dataclasses.dataclass(frozen=True)
class Rows:
    """Columns of equal length: lists, and arrays by their first axis."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def take(self, mask: np.ndarray) -> Self:
        """Only the rows where `mask` (bool [n]) is true."""
        return type(self)(**{name: _taken(column, mask) for name, column in vars(self).items()})

    @classmethod
    def join(cls, pieces: list[Self]) -> Self:
        return cls(**{name: _joined([getattr(piece, name) for piece in pieces]) for name in vars(pieces[0])})

    def write(self, path: pathlib.Path) -> None:
        path.write_bytes(msgpack.packb({name: _packed(column) for name, column in vars(self).items()}))

    @classmethod
    def read(cls, path: pathlib.Path) -> Self:
        return cls(**{name: _unpacked(column) for name, column in msgpack.unpackb(path.read_bytes()).items()})


@dataclasses.dataclass(frozen=True)
class Labels(Rows):
    """What tells n documents apart."""

    ids: list[str]
    id_keys: np.ndarray  # uint64 [n]: equal for equal ids
    digests: np.ndarray  # uint64 [n], of texts and images: equal for exact duplicates
    caption_keys: np.ndarray  # uint64 [n]: equal for captions that say the same
    groups: np.ndarray  # uint64 [n]: equal for what the source gives as one, such as all captions of an image
    are_instructions: np.ndarray  # bool [n]


@dataclasses.dataclass(frozen=True)
class Images(Rows):
    """What tells the m images of n documents apart (`signatures.py`)."""

    documents: np.ndarray  # int32 [m], ascending: the row of the document that each is of
    pixels: np.ndarray  # uint64 [m]: equal for equal images
    sketches: np.ndarray  # float16 [m, SKETCH]


@dataclasses.dataclass(frozen=True)
class Documents(Rows):
    """n documents."""

    records: list[bytes]  # without neighbours
    embeddings: np.ndarray  # float32 [n, D], of the documents: what the memory bank holds
    queries_by_image: np.ndarray  # float32 [n, D]
    queries_by_text: np.ndarray  # float32 [n, D]


@dataclasses.dataclass(frozen=True)
class Part:
    """The documents of one shard and split, and the examples among them that cannot be used."""

    labels: Labels
    images: Images
    thumbnails: np.ndarray  # uint8 [m, THUMBNAIL], of `images`
    documents: Documents
    quarantined: list[tuple[str, str]]  # (id, reason)


def write_parts(job: Job, shard: int, parts: dict[str, Part]) -> None:
    """Writes the parts of all splits of a shard, all or none."""
    with new_directory(_folder(job, shard)) as aside:
        for split, part in parts.items():
            (aside / split).mkdir()
            part.labels.write(aside / split / "labels.msgpack")
            part.images.write(aside / split / "images.msgpack")
            np.save(aside / split / "thumbnails.npy", part.thumbnails)
            part.documents.write(aside / split / "documents.msgpack")
        summary = {split: [len(part.labels), len(part.images), part.quarantined] for split, part in parts.items()}
        write_json(aside / _SUMMARY_FILE, summary)


def is_made(job: Job, shard: int) -> bool:
    return (_folder(job, shard) / _SUMMARY_FILE).exists()


def part_sizes(job: Job, shard: int) -> dict[str, int]:
    """The number of documents of each split that a shard has."""
    return {split: documents for split, (documents, _, _) in _summary(job, shard).items()}


def image_counts(job: Job, shard: int) -> dict[str, int]:
    """The number of images of each split that a shard has."""
    return {split: images for split, (_, images, _) in _summary(job, shard).items()}


def read_quarantined(job: Job, shard: int) -> dict[str, list[tuple[str, str]]]:
    """(id, reason) of the examples of each split that cannot be used."""
    return {split: quarantined for split, (_, _, quarantined) in _summary(job, shard).items()}


def read_labels(job: Job, shard: int, split: str) -> Labels:
    return Labels.read(_folder(job, shard) / split / "labels.msgpack")


def read_images(job: Job, shard: int, split: str) -> Images:
    return Images.read(_folder(job, shard) / split / "images.msgpack")


def read_thumbnails(job: Job, shard: int, split: str, rows: np.ndarray) -> np.ndarray:
    """Those of some images: uint8 [len(rows), THUMBNAIL]."""
    return np.load(_folder(job, shard) / split / "thumbnails.npy", mmap_mode="r")[rows]


def read_documents(job: Job, shard: int, split: str) -> Documents:
    return Documents.read(_folder(job, shard) / split / "documents.msgpack")


def _folder(job: Job, shard: int) -> pathlib.Path:
    return job.path("parts", f"{shard:05d}")


def _summary(job: Job, shard: int) -> dict[str, Any]:
    return read_json(_folder(job, shard) / _SUMMARY_FILE, what="summary", make_with="cm3leon prepare")


def _taken(column: Any, mask: np.ndarray) -> Any:
    if isinstance(column, np.ndarray):
        return column[mask]
    return [item for item, keep in zip(column, mask, strict=True) if keep]


def _joined(columns: list[Any]) -> Any:
    return np.concatenate(columns) if isinstance(columns[0], np.ndarray) else [each for one in columns for each in one]


def _packed(column: Any) -> Any:
    if not isinstance(column, np.ndarray):
        return column
    return {"dtype": column.dtype.str, "shape": column.shape, "data": column.tobytes()}


def _unpacked(column: Any) -> Any:
    if not isinstance(column, dict):
        return column
    return np.frombuffer(column["data"], column["dtype"]).reshape(column["shape"])
