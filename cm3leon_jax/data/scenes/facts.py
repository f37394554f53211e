"""Statements about scenes that are either true or false: what captions state, and what scores count.

An object is named by its colour and shape. A fact about an object that is not in the scene is false.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from cm3leon_jax.data.scenes.world import Scene, SceneObject

RELATIONS = ("left of", "right of", "above", "below")


def named(scene: Scene, colour: str, shape: str) -> list[SceneObject]:
    return [item for item in scene.objects if item.colour == colour and item.shape == shape]


def related(one: SceneObject, relation: str, other: SceneObject) -> bool:
    """Whether `one` is `relation` (of) `other`, by the columns and rows of the grid."""
    if relation in ("right of", "below"):
        one, other = other, one
    if relation in ("left of", "right of"):
        return one.column < other.column
    return one.row < other.row


@dataclasses.dataclass(frozen=True)
class Exists:
    """There is such an object."""

    colour: str
    shape: str

    def holds(self, scene: Scene) -> bool:
        return bool(named(scene, self.colour, self.shape))


@dataclasses.dataclass(frozen=True)
class HasSize:
    colour: str
    shape: str
    size: str

    def holds(self, scene: Scene) -> bool:
        return any(item.size == self.size for item in named(scene, self.colour, self.shape))


@dataclasses.dataclass(frozen=True)
class HasPlace:
    colour: str
    shape: str
    place: str

    def holds(self, scene: Scene) -> bool:
        return any(item.place == self.place for item in named(scene, self.colour, self.shape))


@dataclasses.dataclass(frozen=True)
class Related:
    """The first object is left of, right of, above or below the other."""

    colour: str
    shape: str
    relation: str
    other_colour: str
    other_shape: str

    def holds(self, scene: Scene) -> bool:
        others = named(scene, self.other_colour, self.other_shape)
        return any(
            related(one, self.relation, other) for one in named(scene, self.colour, self.shape) for other in others
        )


@dataclasses.dataclass(frozen=True)
class Count:
    """There are exactly so many objects in all."""

    count: int

    def holds(self, scene: Scene) -> bool:
        return len(scene.objects) == self.count


Fact = Exists | HasSize | HasPlace | Related | Count
KINDS: dict[str, type] = {
    "exists": Exists,
    "size": HasSize,
    "place": HasPlace,
    "relation": Related,
    "count": Count,
}
_KIND_OF = {kind: name for name, kind in KINDS.items()}


def kind_of(fact: Fact) -> str:
    """The name of a fact's type, a key of `KINDS`."""
    return _KIND_OF[type(fact)]


def fact_to_dict(fact: Fact) -> dict[str, Any]:
    """JSON-able; `fact_from_dict` is the exact inverse."""
    return {"kind": kind_of(fact), **vars(fact)}


def fact_from_dict(value: dict[str, Any]) -> Fact:
    fields = dict(value)
    return KINDS[fields.pop("kind")](**fields)


def check(fact: Fact, scene: Scene) -> bool:
    return fact.holds(scene)


def score(facts: Iterable[Fact], scene: Scene) -> tuple[int, int]:
    """How many of the facts are true of the scene, and how many there are."""
    results = [fact.holds(scene) for fact in facts]
    return sum(results), len(results)


def all_facts(scene: Scene) -> tuple[Fact, ...]:
    """Name, size and place of every object, and the count: what a perfect reading of the picture recovers."""
    facts: list[Fact] = []
    for item in scene.objects:
        facts += [
            Exists(item.colour, item.shape),
            HasSize(item.colour, item.shape, item.size),
            HasPlace(item.colour, item.shape, item.place),
        ]
    return (*facts, Count(len(scene.objects)))
