"""The second stage of preparing: which documents are left out because an earlier one says the same.

Earlier is by split (all in the order "train", then by name), shard and row: nothing is both trained on and held out.
Beam brings together what has the same id, and then what has the same caption; so no worker sees more than that at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from cm3leon_jax.data.prepare.counting import report
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.likeness import NO_HASH, differing_bits
from cm3leon_jax.data.prepare.parts import Documents, part_sizes, read_documents, read_labels
from cm3leon_jax.data.prepare.reasons import NEARLY, SAME, SAME_ID
from cm3leon_jax.data.prepare.workers import guarded, import_beam, run
from cm3leon_jax.data.shards import BANK_SPLIT
from cm3leon_jax.runtime.files import read_json, write_json

_LABEL = "duplicates"


class _Where(NamedTuple):
    """A document, ordered as the rule above says."""

    is_held_out: bool
    split: str
    shard: int
    row: int


class _Claim(NamedTuple):
    """A document that says it is the first of its kind. Claims are ordered by place."""

    place: _Where
    id: str
    digest: int
    image_hash: bytes


def find_duplicates(job: Job, options: Any, total: int) -> None:
    """Writes what is left out of each shard, with the reason; `left_out` reads it."""
    beam = import_beam()
    done = job.path("duplicates", "done.json")
    if done.exists():
        return

    def build(pipeline: Any) -> None:
        shards = pipeline | beam.Create(range(len(job.shards))) | beam.Reshuffle()
        claims = shards | beam.FlatMap(functools.partial(guarded, _claims, job, _LABEL))
        same_id = (
            claims
            | "key by id" >> beam.Map(lambda claim: (claim[1].id, claim[1]))
            | "same id" >> beam.GroupByKey()
            | "later ones" >> beam.FlatMap(_later_of_one_id)
        )
        without = beam.pvalue.AsDict(same_id)
        same_caption = (
            claims
            | beam.Filter(lambda claim, without: claim[1].place not in without, without=without)
            | "same caption" >> beam.GroupByKey()
            | "look alike" >> beam.FlatMap(functools.partial(_alike, job.settings.prepare.near_duplicate_bits))
        )
        _ = (
            (same_id, same_caption)
            | beam.Flatten()
            | "key by shard" >> beam.Map(lambda found: (found[0].shard, found))
            | "of a shard" >> beam.GroupByKey()
            | "write" >> beam.Map(functools.partial(_write, job))
        )

    run(job, build, options, label=_LABEL, unit="documents", total=total)
    write_json(done, True)


def left_out(job: Job, shard: int) -> dict[str, dict[int, str]]:
    """Of each split: the rows of a shard's part that are left out, and why."""
    path = job.path("duplicates", f"{shard:05d}.json")
    found: dict[str, dict[int, str]] = {}
    if path.exists():
        for split, row, reason in read_json(path, what="list of duplicates", make_with="cm3leon prepare"):
            found.setdefault(split, {})[row] = reason
    return found


def kept_documents(job: Job, shard: int, split: str) -> Documents:
    """The documents of a part without those that are left out."""
    documents = read_documents(job, shard, split)
    mask = np.ones(len(documents), bool)
    mask[list(left_out(job, shard).get(split, ()))] = False
    return documents.take(mask)


def _claims(job: Job, shard: int) -> list[tuple[int, _Claim]]:
    """(the caption's key, claim) of each document of a shard."""
    claims = []
    for split in part_sizes(job, shard):
        labels = read_labels(job, shard, split)
        for row, id in enumerate(labels.ids):
            place = _Where(split != BANK_SPLIT, split, shard, row)
            claim = _Claim(place, id, int(labels.digests[row]), labels.image_hashes[row].tobytes())
            claims.append((int(labels.caption_keys[row]), claim))
        report(len(labels))
    return claims


def _later_of_one_id(group: tuple[str, Iterable[_Claim]]) -> Iterator[tuple[_Where, str]]:
    for claim in sorted(group[1])[1:]:
        yield claim.place, SAME_ID.format(id=claim.id)


def _alike(bits: int, group: tuple[int, Iterable[_Claim]]) -> Iterator[tuple[_Where, str]]:
    """Among documents of one caption: (place, reason) of those that look like one before that stays."""
    claims = sorted(group[1])
    if len(claims) == 1:
        return
    hashes = np.stack([np.frombuffer(claim.image_hash, np.uint8) for claim in claims])
    first_of: dict[int, str] = {}  # digest -> id
    stays: list[int] = []
    for number, claim in enumerate(claims):
        if claim.digest in first_of:
            yield claim.place, SAME.format(id=first_of[claim.digest])
            continue
        near = np.flatnonzero(differing_bits(hashes[number], hashes[np.array(stays, int)]) <= bits)
        if len(near) and (hashes[number] != NO_HASH).any():
            yield claim.place, NEARLY.format(id=claims[stays[near[0]]].id)
            continue
        first_of[claim.digest] = claim.id
        stays.append(number)


def _write(job: Job, group: tuple[int, Iterable[tuple[_Where, str]]]) -> None:
    shard, found = group
    rows = sorted([place.split, place.row, reason] for place, reason in found)
    write_json(job.path("duplicates", f"{shard:05d}.json"), rows)
