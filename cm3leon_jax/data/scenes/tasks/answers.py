"""Questions as data, and their answers: one definition for making examples and for answering by what was read.

A query is {"kind": …} with what the kind asks about: "colour", "shape" and "place" name objects ("other_colour" and
"other_shape" a second one), "relation" is one of `facts.RELATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cm3leon_jax.data.scenes.facts import Exists, Related, named
from cm3leon_jax.data.scenes.phrases import NUMBERS
from cm3leon_jax.data.scenes.world import SIZES, Scene, SceneObject

Query = Mapping[str, str]
YES, NO = "yes", "no"


def matching(query: Query, scene: Scene) -> list[SceneObject]:
    """The objects of which all that the query names is true."""
    asked = {name: query[name] for name in ("colour", "shape", "place") if name in query}
    return [item for item in scene.objects if all(getattr(item, name) == value for name, value in asked.items())]


def answer(query: Query, scene: Scene) -> str:
    """One or two words; "" where the scene does not allow the question."""
    return _ANSWERS[query["kind"]](query, scene)


def number_word(number: int) -> str:
    """ "zero", "one", …; digits beyond what a scene can have."""
    words = ("zero", *NUMBERS)
    return words[number] if number < len(words) else str(number)


def _attribute(name: str) -> Callable[[Query, Scene], str]:
    def of_the_only_one(query: Query, scene: Scene) -> str:
        found = matching(query, scene)
        return getattr(found[0], name) if len(found) == 1 else ""

    return of_the_only_one


def _count(query: Query, scene: Scene) -> str:
    return number_word(len(matching(query, scene)))


def _exists(query: Query, scene: Scene) -> str:
    return YES if Exists(query["colour"], query["shape"]).holds(scene) else NO


def _both(query: Query, scene: Scene) -> list[SceneObject]:
    """The two objects that are compared; fewer where one is missing."""
    return [
        *named(scene, query["colour"], query["shape"])[:1],
        *named(scene, query["other_colour"], query["other_shape"])[:1],
    ]


def _larger(query: Query, scene: Scene) -> str:
    items = _both(query, scene)
    if len(items) < 2 or items[0].size == items[1].size:
        return ""
    largest = max(items, key=lambda item: SIZES[item.size])
    return f"{largest.colour} {largest.shape}"


def _relation(query: Query, scene: Scene) -> str:
    if len(_both(query, scene)) < 2:
        return ""
    fact = Related(query["colour"], query["shape"], query["relation"], query["other_colour"], query["other_shape"])
    return YES if fact.holds(scene) else NO


_ANSWERS: dict[str, Callable[[Query, Scene], str]] = {
    "colour": _attribute("colour"),
    "shape": _attribute("shape"),
    "size": _attribute("size"),
    "place": _attribute("place"),
    "count": _count,
    "exists": _exists,
    "larger": _larger,
    "relation": _relation,
}
QUESTION_KINDS = tuple(_ANSWERS)
