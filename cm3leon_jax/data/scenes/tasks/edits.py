"""Edits of scenes: one object made another, taken away, or put in, such that the result is a scene of the world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cm3leon_jax.data.scenes.tasks.example import in_random_order
from cm3leon_jax.data.scenes.world import COLOURS, PLACES, SHAPES, SIZES, Scene, SceneObject, WorldConfig, place_center


@dataclasses.dataclass(frozen=True)
class Edit:
    """`before` becomes `after`; None where an object is added or removed."""

    kind: str  # a key of `EDITS`
    before: SceneObject | None
    after: SceneObject | None

    def apply(self, scene: Scene) -> Scene:
        """The scene with the edit done; `before` is one of its objects."""
        objects = list(scene.objects)
        if self.before is None:
            assert self.after is not None
            return Scene((*objects, self.after), scene.background)
        place = objects.index(self.before)
        objects[place : place + 1] = [self.after] if self.after else []
        return Scene(tuple(objects), scene.background)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `Edit.from_dict` is the exact inverse."""
        before, after = (dict(vars(item)) if item else None for item in (self.before, self.after))
        return {"kind": self.kind, "before": before, "after": after}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Edit:
        before, after = (SceneObject(**value[name]) if value[name] else None for name in ("before", "after"))
        return cls(value["kind"], before, after)


def is_legal(scene: Scene, world: WorldConfig) -> bool:
    """Whether the world can have it: no two objects of one colour and shape or at one place, and a count it draws."""
    names = {(item.colour, item.shape) for item in scene.objects}
    places = {item.place for item in scene.objects}
    return len(names) == len(places) == len(scene.objects) in possible_counts(world)


def possible_counts(world: WorldConfig) -> set[int]:
    return {place + 1 for place, probability in enumerate(world.count_probabilities) if probability > 0}


def edit_kinds(world: WorldConfig) -> list[str]:
    """The kinds that some scene of the world allows: objects are added or removed where neighbouring counts occur."""
    counts = possible_counts(world)
    may_change = any(count + 1 in counts for count in counts)
    return [kind for kind in EDITS if may_change or kind not in ("add", "remove")]


def legal_edits(rng: np.random.Generator, scene: Scene, kind: str, world: WorldConfig) -> Iterator[tuple[Edit, Scene]]:
    """The edits of a kind in random order, each with its result."""
    for before, after in EDITS[kind](rng, scene, world):
        edit = Edit(kind, before, after)
        result = edit.apply(scene)
        if is_legal(result, world):
            yield edit, result


Change = tuple[SceneObject | None, SceneObject | None]
Changes = Callable[[np.random.Generator, Scene, WorldConfig], Iterator[Change]]


def _attribute(name: str, values: tuple[str, ...]) -> Changes:
    def changes(rng: np.random.Generator, scene: Scene, world: WorldConfig) -> Iterator[Change]:
        del world
        each = [(item, value) for item in scene.objects for value in values if value != getattr(item, name)]
        for item, value in in_random_order(rng, each):
            changed: dict[str, Any] = {name: value}
            yield item, dataclasses.replace(item, **changed)

    return changes


def _move(rng: np.random.Generator, scene: Scene, world: WorldConfig) -> Iterator[Change]:
    """An object keeps where it is in its cell."""
    del world
    for item, place in in_random_order(rng, [(item, place) for item in scene.objects for place in PLACES]):
        (old_x, old_y), (x, y) = place_center(item.place), place_center(place)
        if place != item.place:
            x, y = round(x + item.x - old_x, 4), round(y + item.y - old_y, 4)
            yield item, dataclasses.replace(item, place=place, x=x, y=y)


def _remove(rng: np.random.Generator, scene: Scene, world: WorldConfig) -> Iterator[Change]:
    del world
    for item in in_random_order(rng, scene.objects):
        yield item, None


def _add(rng: np.random.Generator, scene: Scene, world: WorldConfig) -> Iterator[Change]:
    del scene
    choices = (SHAPES, tuple(COLOURS), tuple(SIZES), PLACES)
    for number in rng.permutation(np.prod([len(each) for each in choices])).tolist():
        values = []
        for each in choices:
            number, place_in_it = divmod(number, len(each))
            values.append(each[place_in_it])
        shape, colour, size, place = values
        (x, y), (dx, dy) = place_center(place), (world.jitter * rng.uniform(-1, 1, 2)).tolist()
        yield None, SceneObject(shape, colour, size, place, round(x + dx, 4), round(y + dy, 4))


EDITS: dict[str, Changes] = {
    "recolour": _attribute("colour", tuple(COLOURS)),
    "resize": _attribute("size", tuple(SIZES)),
    "reshape": _attribute("shape", SHAPES),
    "move": _move,
    "remove": _remove,
    "add": _add,
}
