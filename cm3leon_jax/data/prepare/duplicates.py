"""The second stage of preparing: which documents are left out because an earlier one says the same.

Earlier is by split (what is trained on before what is held out), shard and row. Left out are documents

- with an id that was there before;
- with the same texts and images as another;
- of one image that is a near copy of another's (`PrepareConfig.near_copies`). An image may have several captions, and
  several questions may be asked about it: what the source gives as one image stays, and so do instructions;
- that are held out, and have an image that is trained on, or a near copy of one (`PrepareConfig.held_out_copies`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cm3leon_jax.data.prepare.clusters import copies_of_images
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
    NEAR_COPY: "the same image as {kept}, or nearly, and the same caption",
    OTHER_CAPTION: "the same image as {kept}, or nearly, with another caption",
    HELD_OUT_COPY: "held out, but its image, or nearly the same, is trained on in {kept}",
}
# Documents of one image are kept apart from so many of each other at least; from all, where these are not more pairs.
_LEAST_SAME, _MOST_SAME_PAIRS = 64, 10**6


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
    same = np.zeros((0, 2), np.int64)
    for run in runs(column(job, "id_keys")):
        first, *later = run.tolist()
        gone |= dict.fromkeys(later, (SAME_ID, first))
    for run in runs(column(job, "digests")):
        first, *later = [number for number in run.tolist() if number not in gone] or [-1]
        gone |= dict.fromkeys(later, (SAME, first))
    config = job.settings.prepare
    if config.near_copies != "keep" or config.held_out_copies != "keep":
        images = column(job, "documents")
        copies = copies_of_images(job, parts, options)
        clusters = [np.unique(images[cluster]) for cluster in copies.clusters]
        pairs = np.unique(images[copies.pairs], axis=0)
        facts = _facts(job, parts, pairs)
        for cluster in clusters:
            _leave_out_copies(_side(cluster, facts, held_out=False), config, gone)
        if config.held_out_copies == "leave_out":
            held_out = next((part.documents.start for part in parts if is_held_out(part.split)), np.inf)
            across = pairs[(pairs[:, 0] < held_out) & (pairs[:, 1] >= held_out)]
            _leave_out_held_out(across, gone)
        for cluster in clusters:
            _leave_out_copies(_side(cluster, facts, held_out=True), config, gone)
        same = _same_images(pairs, clusters, facts, gone)
    _write_same_images(job, parts, same, gone)
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


_Facts = dict[int, _Document]


def _side(cluster: np.ndarray, facts: _Facts, *, held_out: bool) -> list[_Document]:
    """The documents of a cluster that are held out, or those that are not."""
    return [facts[number] for number in cluster.tolist() if facts[number].is_held_out == held_out]


def _leave_out_copies(documents: list[_Document], config: PrepareConfig, gone: _Gone) -> None:
    """Of documents with near copies of one image, in order: adds those that are left out to `gone`."""
    if config.near_copies == "keep":
        return
    by_caption: dict[int, int] = {}
    first: _Document | None = None  # that is no instruction
    for document in documents:
        if document.number in gone or not document.is_pair:
            continue
        if document.caption in by_caption:
            gone[document.number] = NEAR_COPY, by_caption[document.caption]
            continue
        if not document.is_instruction:
            first = first or document
            if document.group != first.group and config.near_copies == "leave_out":
                gone[document.number] = OTHER_CAPTION, first.number
                continue
        by_caption[document.caption] = document.number


def _leave_out_held_out(pairs: np.ndarray, gone: _Gone) -> None:
    """Of pairs of a document that is not held out and one that is, with an image in common: adds the latter to `gone`
    where the former stays."""
    for trained, held_out in pairs.tolist():
        if trained not in gone and held_out not in gone:
            gone[held_out] = HELD_OUT_COPY, trained


def _same_images(pairs: np.ndarray, clusters: list[np.ndarray], facts: _Facts, gone: _Gone) -> np.ndarray:
    """Pairs int64 [n, 2], sorted, of a document that stays and one that is retrieved, which show the same image."""
    pairs = pairs[~np.isin(pairs, np.fromiter(gone, np.int64, len(gone))).any(axis=1)]
    found = [pairs, pairs[:, ::-1]]
    for cluster in clusters:
        stay = np.array([number for number in cluster.tolist() if number not in gone], np.int64)
        most = max(_LEAST_SAME, _MOST_SAME_PAIRS // max(1, len(stay)))
        retrieved = np.array([number for number in stay.tolist() if facts[number].is_retrieved][:most], np.int64)
        found.append(np.stack(np.broadcast_arrays(stay[:, None], retrieved), axis=2).reshape(-1, 2))
    same = np.unique(np.concatenate(found), axis=0)
    kept = [one != other and facts[one].is_pair and facts[other].is_retrieved for one, other in same.tolist()]
    return same[np.array(kept, bool)]


def _facts(job: Job, parts: list[NumberedPart], pairs: np.ndarray) -> _Facts:
    """Of all documents in pairs."""
    numbers = np.unique(pairs)
    found = {}
    for part, here, rows in by_part(parts, numbers):
        labels = read_labels(job, part.shard, part.split)
        columns = labels.are_instructions, labels.caption_keys, labels.groups
        of_split = is_held_out(part.split), part.split == BANK_SPLIT, part.split in SPLITS
        for number, *values in zip(numbers[here].tolist(), *(each[rows].tolist() for each in columns), strict=True):
            found[number] = _Document(number, *of_split, *values)
    return found


def _write_left_out(job: Job, parts: list[NumberedPart], gone: _Gone) -> None:
    """A file for each shard that something is left out of: [split, row, kind, the id of what stays] of each."""

    def stays(number: int) -> int:
        """What is left of a duplicate's duplicates."""
        kind, kept = gone[number]
        return kept if kind == SAME_ID or kept not in gone else stays(kept)

    kept = np.unique(np.array([stays(number) for number in gone], np.int64))
    ids: dict[int, str] = {}
    for part, here, rows in by_part(parts, kept):
        names = read_labels(job, part.shard, part.split).ids
        ids |= {number: names[row] for number, row in zip(kept[here].tolist(), rows.tolist(), strict=True)}
    numbers = np.array(sorted(gone), np.int64)
    found: dict[int, list[tuple]] = {}
    for part, here, rows in by_part(parts, numbers):
        for number, row in zip(numbers[here].tolist(), rows.tolist(), strict=True):
            found.setdefault(part.shard, []).append((part.split, row, gone[number][0], ids[stays(number)]))
    for shard, left in found.items():
        write_json(job.path(FOLDER, f"{shard:05d}.json"), left)


def _write_same_images(job: Job, parts: list[NumberedPart], pairs: np.ndarray, gone: _Gone) -> None:
    """A file for each shard that has such documents, for `same_images`. The split that is retrieved from is numbered
    first, so an index in it is the number less those gone before it."""
    numbers = np.array(sorted(gone), np.int64)
    indexes = pairs[:, 1] - np.searchsorted(numbers, pairs[:, 1])
    found: dict[int, list[tuple]] = {}
    for part, here, rows in by_part(parts, pairs[:, 0]):
        kept = rows - (np.searchsorted(numbers, pairs[here, 0]) - np.searchsorted(numbers, part.documents.start))
        for row, index in zip(kept.tolist(), indexes[here].tolist(), strict=True):
            found.setdefault(part.shard, []).append((part.split, row, index))
    for shard, same in found.items():
        write_json(job.path(FOLDER, f"{shard:05d}-same.json"), same)
