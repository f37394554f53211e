"""The world of the demo: what a scene is, and how scenes are drawn at random.

A scene is one to four plain shapes at distinct places of a 3x3 grid on a light background. All lengths are fractions of
the image's side, so that one scene can be rendered at any resolution.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from cm3leon_jax.runtime.errors import UserError

SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")

# Far apart from one another and from the backgrounds, also after blur: every colour differs from every background by at
# least 180 of 255 in some channel, which is what the scene reader finds objects by.
COLOURS = {
    "red": (205, 25, 35),
    "orange": (245, 125, 0),
    "yellow": (255, 222, 25),
    "green": (25, 150, 50),
    "cyan": (0, 200, 220),
    "blue": (30, 65, 215),
    "magenta": (205, 40, 195),
    "black": (25, 25, 30),
}

# Diameters; each size is 1.3 times the one below it.
SIZES = {"small": 0.145, "medium": 0.19, "large": 0.25}

# The cells of the grid in reading order: row * 3 + column.
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")

BACKGROUNDS = {"white": (250, 250, 250), "cream": (248, 239, 220), "mist": (226, 231, 238)}

MAX_OBJECTS = 4
# Distance between the middles of neighbouring cells. They lie at 1/8, 1/2 and 7/8 of the image: the largest object
# reaches the border, objects in neighbouring cells do not touch, and at a power of two as resolution every middle is a
# corner of the image tokenizer's patches, so that equal objects are equal patches wherever they stand.
PITCH = 0.375
MAX_JITTER = 0.015


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """One object. `x`, `y` is the middle of its shape (0, 0 = top left corner of the image, 1, 1 = bottom right)."""

    shape: str
    colour: str
    size: str
    place: str
    x: float
    y: float

    @property
    def row(self) -> int:
        return PLACES.index(self.place) // 3

    @property
    def column(self) -> int:
        return PLACES.index(self.place) % 3


@dataclasses.dataclass(frozen=True)
class Scene:
    """Objects in no particular order, and the name of the background."""

    objects: tuple[SceneObject, ...]
    background: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `Scene.from_dict` is the exact inverse."""
        return {"background": self.background, "objects": [dict(vars(item)) for item in self.objects]}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Scene:
        return cls(tuple(SceneObject(**item) for item in value["objects"]), value["background"])

    def key(self) -> tuple[tuple[str, str, str, str], ...]:
        """What the scene shows, without jitter, background and the order of the objects: equal keys, equal facts."""
        return tuple(sorted((item.place, item.colour, item.shape, item.size) for item in self.objects))


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    count_probabilities: tuple[float, ...] = (0.35, 0.35, 0.2, 0.1)  # of scenes with 1, 2, 3, 4 objects
    jitter: float = 0.01  # largest displacement from the middle of a cell, fraction of the image's side
    backgrounds: tuple[str, ...] = tuple(BACKGROUNDS)  # names, drawn uniformly

    def __post_init__(self) -> None:
        probabilities = self.count_probabilities
        if not 1 <= len(probabilities) <= MAX_OBJECTS or min(probabilities) < 0 or abs(sum(probabilities) - 1) > 1e-6:
            raise UserError(f"count_probabilities = {probabilities}: give 1 to {MAX_OBJECTS} shares that sum to 1")
        if not 0 <= self.jitter <= MAX_JITTER:
            raise UserError(f"jitter = {self.jitter}: give a fraction of the image from 0 to {MAX_JITTER}")
        unknown = sorted(set(self.backgrounds) - set(BACKGROUNDS))
        if unknown or not self.backgrounds:
            raise UserError(f"backgrounds = {self.backgrounds}: give one or more of {', '.join(BACKGROUNDS)}")


def place_center(place: str) -> tuple[float, float]:
    """Middle (x, y) of a cell of the grid."""
    row, column = divmod(PLACES.index(place), 3)
    return 0.5 + (column - 1) * PITCH, 0.5 + (row - 1) * PITCH


def place_at(x: float, y: float) -> str:
    """The cell whose middle is nearest to the point (x, y)."""
    return PLACES[_nearest(y) * 3 + _nearest(x)]


def _nearest(value: float) -> int:
    return min(max(round((value - 0.5) / PITCH), -1), 1) + 1


def sample_scene(rng: np.random.Generator, config: WorldConfig) -> Scene:
    """A random scene, a pure function of the generator's state.

    No two objects share a place, nor both shape and colour, so that naming an object by its colour and shape is enough.
    """
    chance = rng.random()
    count = 1 + sum(chance >= limit for limit in itertools.accumulate(config.count_probabilities[:-1]))
    colours, sizes = tuple(COLOURS), tuple(SIZES)
    names = rng.permutation(len(SHAPES) * len(colours))[:count].tolist()
    places = rng.permutation(len(PLACES))[:count].tolist()
    size_indices = rng.integers(len(sizes), size=count).tolist()
    offsets = (config.jitter * rng.uniform(-1, 1, (count, 2))).tolist()
    objects = []
    for name, place_index, size_index, (dx, dy) in zip(names, places, size_indices, offsets, strict=True):
        place = PLACES[place_index]
        x, y = place_center(place)
        objects.append(
            SceneObject(
                shape=SHAPES[name % len(SHAPES)],
                colour=colours[name // len(SHAPES)],
                size=sizes[size_index],
                place=place,
                x=round(x + dx, 4),
                y=round(y + dy, 4),
            )
        )
    return Scene(tuple(objects), config.backgrounds[int(rng.integers(len(config.backgrounds)))])
