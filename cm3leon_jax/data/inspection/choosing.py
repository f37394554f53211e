"""Which documents are shown: some at random, or those that are named."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np

from cm3leon_jax.data.records import PreparedDocument
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.progress import progress

_COMPARED = 100_000  # ids that an unknown one is compared with, to name the nearest


class Shown(NamedTuple):
    split: str
    place: int  # in the split
    document: PreparedDocument


def random_documents(data: PreparedData, split: str, *, count: int, seed: int) -> list[Shown]:
    """At most `count` different documents of a split, in the order of their places. `UserError`: it has none."""
    found = data.split(split)
    if not len(found):
        raise UserError(f"split {split!r} of {data.directory} is empty; name another of {', '.join(data.splits)}")
    places = np.random.default_rng(seed).permutation(len(found))[:count]
    return [Shown(split, index, found[index]) for index in sorted(places.tolist())]


def named_documents(data: PreparedData, split: str, ids: Iterable[str]) -> list[Shown]:
    """The documents of a split that have these ids, in this order. `UserError` naming the nearest id there is."""
    ids = list(dict.fromkeys(ids))
    found = find(data, [split], ids)
    for id in ids:
        if id not in found:
            documents = data.split(split)
            known = (documents[index].id for index in range(min(len(documents), _COMPARED)))
            raise UserError(f"split {split!r} of {data.directory} has no document {id!r}{nearest(id, known)}")
    return [found[id] for id in ids]


def find(
    data: PreparedData, splits: Iterable[str], ids: Collection[str], *, most: int | None = None
) -> dict[str, Shown]:
    """Of some ids those that the splits have; of one that is in several, in the first. Reads documents until all are
    found, so ids that are not there cost a pass over the splits, or over their first `most` documents."""
    wanted, found = set(ids), dict[str, Shown]()
    opened = [(name, data.split(name)) for name in splits]
    everything = itertools.chain.from_iterable(
        ((name, index, split) for index in range(len(split))) for name, split in opened
    )
    total = sum(len(split) for _, split in opened)
    total = total if most is None else min(total, most)
    read = itertools.islice(everything, total)
    for name, index, split in progress(read, label="looking for ids", total=total, unit="documents", delay=2.0):
        if len(found) == len(wanted):
            break
        document = split[index]
        if document.id in wanted and document.id not in found:
            found[document.id] = Shown(name, index, document)
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean …?)`, or nothing where nothing is near."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
