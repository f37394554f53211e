"""Which pictures and captions the splits hold: disjoint by construction, and no picture twice.

What a picture shows, who and where, belongs to one split by its hash. So a creature's place in a held-out picture of it
alone is one at which no training picture and no document of the memory bank shows it alone: a document can tell what it
looks like, and has to be redrawn elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from cm3leon_jax.data.creatures.captions import write_caption
from cm3leon_jax.data.creatures.world import CreaturesConfig, Sighting, World, random_sightings
from cm3leon_jax.data.splits import SPLITS, hashed_split
from cm3leon_jax.runtime.errors import UserError

HELD_OUT_SHARE = 0.15  # of all pictures, for validation and for test each
MAX_TRIES = 10_000  # draws for one example


@dataclasses.dataclass(frozen=True)
class CreatureExample:
    id: str  # unique in its folder
    sightings: tuple[Sighting, ...]
    caption: str


def creature_examples(split: str, config: CreaturesConfig, world: World) -> Iterator[CreatureExample]:
    """The examples of one split in order, those with creatures of the bank alone last; a pure function of the split and
    the config. Raises `UserError` where the world has too few pictures."""
    shown: set[tuple[Sighting, ...]] = set()
    counts = (getattr(config, split), round(getattr(config, split) * config.bank_only_share))
    for of_bank_only, (kind, count) in enumerate(zip(("known", "bank"), counts, strict=True)):
        rng = np.random.default_rng([config.seed, 1, SPLITS.index(split), of_bank_only])
        for index in range(count):
            sightings = _draw(rng, split, config, bool(of_bank_only), shown)
            seen = [(world.names[sighting.creature], sighting.place) for sighting in sightings]
            yield CreatureExample(f"{split}-{kind}-{index:06d}", sightings, write_caption(rng, seen))


def _draw(
    rng: np.random.Generator, split: str, config: CreaturesConfig, of_bank_only: bool, shown: set
) -> tuple[Sighting, ...]:
    # Once and not in each try: as pictures of one creature run short, there shall not be more of two.
    count = 1 + (rng.random() < config.pairs)
    for _ in range(MAX_TRIES):
        sightings = random_sightings(rng, config, count, of_bank_only=of_bank_only)
        key = tuple(sorted(sightings, key=lambda sighting: sighting.creature))
        who_and_where = [[sighting.creature, sighting.place] for sighting in key]
        if key not in shown and hashed_split(who_and_where, HELD_OUT_SHARE) == split:
            shown.add(key)
            return sightings
    raise UserError(f"the {split} split asks for more pictures than these creatures have; ask for fewer, or more pairs")
