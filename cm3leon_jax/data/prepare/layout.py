"""Where each kept document comes to lie: its shard, and its place in its split, which is its id in the memory bank."""

from __future__ import annotations

from typing import NamedTuple

from cm3leon_jax.data.prepare.duplicates import left_out
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.parts import part_counts
from cm3leon_jax.data.shards import shard_name


class Place(NamedTuple):
    """The documents of one part. Shards of a split are in the order of the shards of the source."""

    split: str
    source_shard: int
    file: str  # the shard that they become
    first: int  # place of the first of them in the split
    documents: int


def lay_out(job: Job) -> dict[str, list[Place]]:
    """The parts of each split, in order; the source's splits are there even where they are empty."""
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in job.source.splits}
    for shard in range(len(job.shards)):
        without = left_out(job, shard)
        for split, (documents, _) in (part_counts(job, shard) or {}).items():
            found[split].append((shard, documents - len(without.get(split, ()))))
    places: dict[str, list[Place]] = {}
    for split, parts in found.items():
        first, places[split] = 0, []
        for number, (shard, count) in enumerate(parts):
            places[split].append(Place(split, shard, shard_name(split, number, len(parts)), first, count))
            first += count
    return places
