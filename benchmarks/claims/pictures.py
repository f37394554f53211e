"""The held-out pictures that are drawn and scored, and the documents that are retrieved for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.creatures.judge import judge
from cm3leon_jax.data.creatures.world import Sighting, World
from cm3leon_jax.data.sources.creatures import CreaturesSource

GROUPS = ("known", "bank_only")  # of creatures: those in the decoders' training data, and those in the bank alone


@dataclasses.dataclass(frozen=True, eq=False)
class Wanted:
    """A held-out picture that is to be drawn from its caption."""

    id: str
    caption: str
    sightings: tuple[Sighting, ...]
    image: np.ndarray  # uint8 [64, 64, 3]


def wanted_pictures(source: CreaturesSource, split: str, known: int, bank_only: int = 0) -> list[Wanted]:
    """The first `known` pictures of known creatures alone, then the first `bank_only` of those that show another."""
    found: dict[bool, list[Wanted]] = {False: [], True: []}
    pictures = source.split(split)
    for index in range(len(pictures)):
        example = pictures[index]
        sightings = tuple(Sighting(*each) for each in example.metadata["sightings"])
        other = any(sighting.creature >= source.world.known for sighting in sightings)
        found[other].append(Wanted(example.id, example.caption, sightings, example.image))
    if len(found[False]) < known or len(found[True]) < bank_only:
        raise ValueError(f"the {split} split has {len(found[False])} and {len(found[True])} pictures, which is too few")
    return found[False][:known] + found[True][:bank_only]


def right(wanted: Sequence[Wanted], drawn: np.ndarray, world: World) -> dict[str, np.ndarray]:
    """Pictures uint8 [N, n, 64, 64, 3], n of each of N wanted ones -> group -> how many of its creatures stand where
    they should, int [N, n]."""
    hits = {group: np.zeros(drawn.shape[:2], int) for group in GROUPS}
    for row, (want, pictures) in enumerate(zip(wanted, drawn, strict=True)):
        for column, picture in enumerate(pictures):
            for sighting, true in zip(want.sightings, judge(picture, want.sightings, world), strict=True):
                hits[GROUPS[sighting.creature >= world.known]][row, column] += true
    return hits


def asked(wanted: Sequence[Wanted], world: World) -> dict[str, np.ndarray]:
    """Group -> how many of its creatures each picture should show, int [N]."""
    known = np.array([[sighting.creature < world.known for sighting in want.sightings].count(True) for want in wanted])
    return {"known": known, "bank_only": np.array([len(want.sightings) for want in wanted]) - known}


def found_by_name(wanted: Sequence[Wanted], captions: Sequence[Sequence[str]], world: World) -> dict[str, np.ndarray]:
    """Captions of the documents retrieved for each picture -> group -> how many of its creatures any of them names."""
    counts = {group: np.zeros(len(wanted), int) for group in GROUPS}
    for row, (want, texts) in enumerate(zip(wanted, captions, strict=True)):
        for sighting in want.sightings:
            named = any(world.names[sighting.creature] in text for text in texts)
            counts[GROUPS[sighting.creature >= world.known]][row] += named
    return counts
