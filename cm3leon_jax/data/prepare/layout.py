"""Where each kept document comes to lie: its shard, and its place in its split, which is its id in the memory bank."""

from __future__ import annotations

from typing import Any, NamedTuple

from cm3leon_jax.data.prepare.duplicates import left_out
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.parts import part_sizes
from cm3leon_jax.data.shards import shard_name
from cm3leon_jax.data.sources.several import NumberedShard, SeveralSources


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
        for split, documents in part_sizes(job, shard).items():
            found[split].append((shard, documents - len(without.get(split, ()))))
    places: dict[str, list[Place]] = {}
    for split, parts in found.items():
        first, places[split] = 0, []
        for number, (shard, count) in enumerate(parts):
            places[split].append(Place(split, shard, shard_name(split, number, len(parts)), first, count))
            first += count
    return places


def describe_sources(job: Job, places: dict[str, list[Place]]) -> list[dict[str, Any]]:
    """Of each source its name, its weight (None: all count by their sizes), and of each split the places of its
    documents: [first, one behind the last]."""
    source = job.source
    parts = (
        list(zip(source.sources, source.weights, strict=True))
        if isinstance(source, SeveralSources)
        else [(source, None)]
    )
    described: list[dict[str, Any]] = [{"name": part.name, "weight": weight, "splits": {}} for part, weight in parts]
    for split, of_split in places.items():
        for place in of_split:
            shard = job.shards[place.source_shard]
            splits = described[shard.number if isinstance(shard, NumberedShard) else 0]["splits"]
            first = splits.get(split, [place.first])[0]
            splits[split] = [first, place.first + place.documents]
    return described
