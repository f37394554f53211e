"""What can be asked about a scene: a random query of each kind, yes and no as likely."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cm3leon_jax.data.scenes.facts import RELATIONS, related
from cm3leon_jax.data.scenes.phrases import pick
from cm3leon_jax.data.scenes.tasks.answers import matching
from cm3leon_jax.data.scenes.world import COLOURS, SHAPES, Scene, SceneObject

Asked = dict[str, str]


def draw_query(rng: np.random.Generator, scene: Scene) -> Asked:
    """Every kind that the scene allows is as likely."""
    return _DRAW[pick(rng, [kind for kind in _DRAW if _allows(kind, scene)])](rng, scene)


def _allows(kind: str, scene: Scene) -> bool:
    if kind == "larger":
        return len({item.size for item in scene.objects}) > 1
    return kind != "relation" or len(scene.objects) > 1


def _named(item: SceneObject) -> Asked:
    return {"colour": item.colour, "shape": item.shape}


def _other(item: SceneObject) -> Asked:
    return {"other_colour": item.colour, "other_shape": item.shape}


def _attribute(kind: str, by: tuple[str, ...]) -> Callable[[np.random.Generator, Scene], Asked]:
    """Asks for `kind` of an object that is named by one of the attributes `by`, which no other object shares."""

    def draw(rng: np.random.Generator, scene: Scene) -> Asked:
        item = pick(rng, scene.objects)
        ways = [{name: getattr(item, name)} for name in by]
        return {"kind": kind, **pick(rng, [way for way in ways if len(matching(way, scene)) == 1])}

    return draw


def _of_named(kind: str) -> Callable[[np.random.Generator, Scene], Asked]:
    def draw(rng: np.random.Generator, scene: Scene) -> Asked:
        return {"kind": kind, **_named(pick(rng, scene.objects))}

    return draw


def _count(rng: np.random.Generator, scene: Scene) -> Asked:
    """Of all objects, or of those of a colour or a shape, which mostly is one that occurs."""
    seen = pick(rng, scene.objects)
    ways: list[Asked] = [{}, {"colour": seen.colour}, {"shape": seen.shape}]
    ways += [{"colour": pick(rng, tuple(COLOURS))}, {"shape": pick(rng, SHAPES)}]
    return {"kind": "count", **pick(rng, ways)}


def _exists(rng: np.random.Generator, scene: Scene) -> Asked:
    """An object that is not there has a colour or a shape of one that is, so that a part of its name tells nothing."""
    item = pick(rng, scene.objects)
    if rng.random() < 0.5:
        return {"kind": "exists", **_named(item)}
    near = [(item.colour, shape) for shape in SHAPES] + [(colour, item.shape) for colour in COLOURS]
    there = {(each.colour, each.shape) for each in scene.objects}
    colour, shape = pick(rng, [name for name in near if name not in there])
    return {"kind": "exists", "colour": colour, "shape": shape}


def _pair(rng: np.random.Generator, scene: Scene) -> list[SceneObject]:
    return [scene.objects[place] for place in rng.permutation(len(scene.objects))[:2]]


def _larger(rng: np.random.Generator, scene: Scene) -> Asked:
    while True:
        one, other = _pair(rng, scene)
        if one.size != other.size:
            return {"kind": "larger", **_named(one), **_other(other)}


def _relation(rng: np.random.Generator, scene: Scene) -> Asked:
    one, other = _pair(rng, scene)
    is_true = rng.random() < 0.5
    relation = pick(rng, [each for each in RELATIONS if related(one, each, other) == is_true])
    return {"kind": "relation", **_named(one), "relation": relation, **_other(other)}


_DRAW: dict[str, Callable[[np.random.Generator, Scene], Asked]] = {
    "colour": _attribute("colour", ("shape", "place")),
    "shape": _attribute("shape", ("colour", "place")),
    "size": _of_named("size"),
    "place": _of_named("place"),
    "count": _count,
    "exists": _exists,
    "larger": _larger,
    "relation": _relation,
}
