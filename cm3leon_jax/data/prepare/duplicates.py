"""The second stage of preparing: which documents are left out because an earlier one says the same.

Earlier is by split (what is trained on before what is held out), shard and row. Left out are documents

- with an id that was there before;
- with the same texts and images as another;
- of one image that is a near copy of another's (`PrepareConfig.near_copies`). An image may have several captions, and
  several questions may be asked about it: what the source gives as one image stays, and so do instructions;
- that are held out, and have an image that is trained on, or a near copy of one (`PrepareConfig.held_out_copies`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from cm3leon_jax.data.prepare.clusters import clusters_of_images
from cm3leon_jax.data.prepare.columns import FOLDER, NumberedPart, by_part, column, numbered_parts, runs, write_columns
from cm3leon_jax.data.prepare.config import PrepareConfig
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.parts import Documents, read_documents, read_labels
from cm3leon_jax.data.shards import BANK_SPLIT
from cm3leon_jax.data.splits import SPLITS, is_held_out
from cm3leon_jax.runtime.files import read_json, write_json

SAME_ID = "same id"
SAME = "same image and caption"
NEAR_COPY = "near copy, same caption"
OTHER_CAPTION = "near copy, other caption"
HELD_OUT_COPY = "held out, image trained on"
REASONS = {  # in words, of the document that stays
    SAME_ID: "its id '{kept}' was there before",
    SAME: "the same image and caption as {kept}",
    NEAR_COPY: "nearly the same image as {kept}, and the same caption",
    OTHER_CAPTION: "nearly the same image as {kept}, with another caption",
    HELD_OUT_COPY: "held out, but its image, or nearly the same, is trained on in {kept}",
}
_MOST_SAME = 64  # documents of one image that are kept apart from each other


class LeftOut(NamedTuple):
    """Why a document is left out."""

    kind: str  # one of `REASONS`
    kept: str  # the id of the document that stays


def find_duplicates(job: Job, options: Any) -> None:
    """Writes what is left out of each shard, with the reason; `left_out` reads it."""
    done = job.path(FOLDER, "done.json")
    if done.exists():
        return
    write_columns(job)
    parts = numbered_parts(job)
    gone: _Gone = {}
    same: list[np.ndarray] = []
    for run in runs(column(job, "id_keys")):
        first, *later = run.tolist()
        gone |= dict.fromkeys(later, (SAME_ID, first))
    for run in runs(column(job, "digests")):
        first, *later = [number for number in run.tolist() if number not in gone] or [-1]
        gone |= dict.fromkeys(later, (SAME, first))
    config = job.settings.prepare
    if config.near_copies != "keep" or config.held_out_copies != "keep":
        documents = column(job, "documents")
        clusters = [np.unique(documents[images]) for images in clusters_of_images(job, parts, options)]
        facts = _facts(job, parts, clusters)
        for cluster in clusters:
            _leave_out_copies([facts[number] for number in cluster.tolist()], config, gone)
        same = [
            _same_images([facts[number] for number in cluster.tolist() if number not in gone]) for cluster in clusters
        ]
    _write_same_images(job, parts, np.concatenate([np.zeros((0, 2), np.int64), *same]), gone)
    _write_left_out(job, parts, gone)
    write_json(done, True)


def left_out(job: Job, shard: int) -> dict[str, dict[int, LeftOut]]:
    """Of each split: the rows of a shard's part that are left out, and why."""
    path = job.path(FOLDER, f"{shard:05d}.json")
    found: dict[str, dict[int, LeftOut]] = {}
    if path.exists():
        for split, row, *why in read_json(path, what="list of duplicates", make_with="cm3leon prepare"):
            found.setdefault(split, {})[row] = LeftOut(*why)
    return found


def kept_documents(job: Job, shard: int, split: str) -> Documents:
    """The documents of a part without those that are left out."""
    documents = read_documents(job, shard, split)
    mask = np.ones(len(documents), bool)
    mask[list(left_out(job, shard).get(split, ()))] = False
    return documents.take(mask)


def same_images(job: Job, shard: int, split: str) -> np.ndarray:
    """Documents that show one image, or near copies: pairs int64 [n, 2] of a row among the part's kept documents, and
    an index in the split that is retrieved from."""
    path = job.path(FOLDER, f"{shard:05d}-same.json")
    rows = read_json(path, what="list of equal images", make_with="cm3leon prepare") if path.exists() else []
    return np.array([pair for name, *pair in rows if name == split], np.int64).reshape(-1, 2)


_Gone = dict[int, tuple[str, int]]  # by a document's number: the kind of reason, and the document that stays


class _Document(NamedTuple):
    number: int
    is_held_out: bool
    is_retrieved: bool
    is_pair: bool  # one image with one text
    is_instruction: bool
    caption: int
    group: int


def _leave_out_copies(cluster: Iterable[_Document], config: PrepareConfig, gone: _Gone) -> None:
    """Of documents that have an image, or a near copy of it, in order: adds those that are left out to `gone`."""
    trained: int | None = None  # the first that is trained on
    for _, side in itertools.groupby(cluster, key=lambda document: document.is_held_out):
        by_caption: dict[int, int] = {}
        first: _Document | None = None  # that is no instruction
        for document in (each for each in side if each.number not in gone):
            if document.is_held_out and trained is not None and config.held_out_copies == "leave_out":
                gone[document.number] = HELD_OUT_COPY, trained
                continue
            if document.is_pair and config.near_copies != "keep":
                if document.caption in by_caption:
                    gone[document.number] = NEAR_COPY, by_caption[document.caption]
                    continue
                if not document.is_instruction:
                    first = first or document
                    if document.group != first.group and config.near_copies == "leave_out":
                        gone[document.number] = OTHER_CAPTION, first.number
                        continue
                by_caption[document.caption] = document.number
            if not document.is_held_out and trained is None:
                trained = document.number


def _same_images(cluster: list[_Document]) -> np.ndarray:
    """Pairs int64 [n, 2] of a document and one that is retrieved, at most `_MOST_SAME` for each."""
    retrieved = np.array([document.number for document in cluster if document.is_retrieved][: _MOST_SAME + 1], np.int64)
    pairs = [document.number for document in cluster if document.is_pair]
    found = np.stack(np.broadcast_arrays(np.array(pairs, np.int64)[:, None], retrieved), axis=2).reshape(-1, 2)
    return found[found[:, 0] != found[:, 1]]


def _facts(job: Job, parts: list[NumberedPart], clusters: list[np.ndarray]) -> dict[int, _Document]:
    numbers = np.unique(np.concatenate([np.zeros(0, np.int64), *clusters]))
    found = {}
    for part, here, rows in by_part(parts, numbers):
        labels = read_labels(job, part.shard, part.split)
        columns = labels.are_instructions, labels.caption_keys, labels.groups
        for number, *values in zip(numbers[here].tolist(), *(each[rows].tolist() for each in columns), strict=True):
            found[number] = _Document(
                number, is_held_out(part.split), part.split == BANK_SPLIT, part.split in SPLITS, *values
            )
    return found


def _write_left_out(job: Job, parts: list[NumberedPart], gone: _Gone) -> None:
    """A file for each shard that something is left out of: [split, row, kind, the id of what stays] of each."""
    stays = np.unique(np.array([kept for _, kept in gone.values()], np.int64))
    ids: dict[int, str] = {}
    for part, here, rows in by_part(parts, stays):
        names = read_labels(job, part.shard, part.split).ids
        ids |= {number: names[row] for number, row in zip(stays[here].tolist(), rows.tolist(), strict=True)}
    numbers = np.array(sorted(gone), np.int64)
    found: dict[int, list[tuple]] = {}
    for part, here, rows in by_part(parts, numbers):
        for number, row in zip(numbers[here].tolist(), rows.tolist(), strict=True):
            kind, kept = gone[number]
            found.setdefault(part.shard, []).append((part.split, row, kind, ids[kept]))
    for shard, left in found.items():
        write_json(job.path(FOLDER, f"{shard:05d}.json"), left)


def _write_same_images(job: Job, parts: list[NumberedPart], pairs: np.ndarray, gone: _Gone) -> None:
    """A file for each shard that has such documents, for `same_images`. The split that is retrieved from is numbered
    first, so an index in it is the number less those gone before it."""
    numbers = np.array(sorted(gone), np.int64)
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    indexes = pairs[:, 1] - np.searchsorted(numbers, pairs[:, 1])
    found: dict[int, list[tuple]] = {}
    for part, here, rows in by_part(parts, pairs[:, 0]):
        kept = rows - (np.searchsorted(numbers, pairs[here, 0]) - np.searchsorted(numbers, part.documents.start))
        for row, index in zip(kept.tolist(), indexes[here].tolist(), strict=True):
            found.setdefault(part.shard, []).append((part.split, row, index))
    for shard, same in found.items():
        write_json(job.path(FOLDER, f"{shard:05d}-same.json"), same)
