"""The world: a name and a sprite for each creature, and pictures of one or two of them at places of a 3x3 grid."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from cm3leon_jax.data.creatures.names import make_names
from cm3leon_jax.data.creatures.sprites import BACKGROUND, SPRITE, make_sprites
from cm3leon_jax.data.scenes.world import PLACES, place_center
from cm3leon_jax.data.splits import SPLITS
from cm3leon_jax.runtime.errors import UserError

RESOLUTION = 64  # pixels a side: at every place a sprite covers four whole patches of 8 pixels


@dataclasses.dataclass(frozen=True)
class CreaturesConfig:
    """The creatures, and how many pictures of them there are. Folders made with the same seed, creatures, bank_only and
    parts show the same creatures."""

    creatures: int = 800  # with names and sprites of their own, in pictures of every split
    bank_only: int = 100  # further ones, which only pictures beside those show (`bank_only_share`)
    bank_only_share: float = 0.0  # such pictures, as a share of each split's others; 0: nobody shows them
    parts: int = 96  # heads, and as many bodies
    pairs: float = 0.1  # share of the pictures with two creatures
    train: int = 5400  # pictures, besides those of bank_only creatures
    validation: int = 500
    test: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.creatures, self.parts) < 2 or self.bank_only < 0:
            raise UserError("a world has at least two creatures and two parts; bank_only must not be negative")
        if not 0 <= self.pairs <= 1 or self.bank_only_share < 0:
            raise UserError(f"pairs = {self.pairs}, bank_only_share = {self.bank_only_share}: give shares from 0")
        if self.bank_only_share and not self.bank_only:
            raise UserError("bank_only_share needs creatures to show; set bank_only, or leave the share at 0")
        for split in SPLITS:
            if getattr(self, split) < 1:
                raise UserError(f"{split} = {getattr(self, split)}: every split needs at least one picture")

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclasses.dataclass(frozen=True)
class Sighting:
    """A creature, by its number in the world, at one of `PLACES`."""

    creature: int
    place: str


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    names: tuple[str, ...]
    sprites: np.ndarray  # uint8 [creatures, 16, 16, 3]
    known: int  # the first so many are in pictures of every split, the others in those of the bank alone

    @classmethod
    def of(cls, config: CreaturesConfig) -> World:
        """A pure function of the config's seed and numbers of creatures and parts."""
        rng = np.random.default_rng([config.seed, 0])
        count = config.creatures + config.bank_only
        return cls(tuple(make_names(count, rng)), make_sprites(count, config.parts, rng), config.creatures)

    def render(self, sightings: Sequence[Sighting]) -> np.ndarray:
        """A picture, uint8 [64, 64, 3]."""
        picture = np.full((RESOLUTION, RESOLUTION, 3), BACKGROUND, np.uint8)
        for sighting in sightings:
            picture[place_box(sighting.place)] = self.sprites[sighting.creature]
        return picture


def place_box(place: str) -> tuple[slice, slice]:
    """Rows and columns of the 16 x 16 pixels of a place."""
    x, y = (int(middle * RESOLUTION) - SPRITE // 2 for middle in place_center(place))
    return slice(y, y + SPRITE), slice(x, x + SPRITE)


def random_sightings(
    rng: np.random.Generator, config: CreaturesConfig, count: int, *, of_bank_only: bool
) -> tuple[Sighting, ...]:
    """`count` different creatures at different places. `of_bank_only`: one of them is such a creature."""
    places = rng.permutation(len(PLACES))[:count].tolist()
    creatures = rng.permutation(config.creatures)[:count].tolist()
    if of_bank_only:
        creatures[int(rng.integers(count))] = config.creatures + int(rng.integers(config.bank_only))
    return tuple(Sighting(creature, PLACES[place]) for creature, place in zip(creatures, places, strict=True))
