"""Whether a drawn picture shows a creature where it should: the sprite nearest to what stands there, by pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.creatures.sprites import BACKGROUND
from cm3leon_jax.data.creatures.world import Sighting, World, place_box

NOBODY = -1


def who_stands_at(picture: np.ndarray, place: str, world: World) -> int:
    """The creature whose sprite has the least squared difference to the place's pixels in a picture, uint8 [64, 64, 3];
    `NOBODY` where plain background is nearer."""
    cell = picture[place_box(place)].astype(np.float32)
    squared = ((world.sprites - cell) ** 2).sum(axis=(1, 2, 3))
    nearest = int(squared.argmin())
    empty = ((np.array(BACKGROUND, np.float32) - cell) ** 2).sum()
    return NOBODY if empty <= squared[nearest] else nearest


def judge(picture: np.ndarray, sightings: Sequence[Sighting], world: World) -> list[bool]:
    """Of each creature that a picture should show, whether it stands at its place."""
    return [who_stands_at(picture, sighting.place, world) == sighting.creature for sighting in sightings]
