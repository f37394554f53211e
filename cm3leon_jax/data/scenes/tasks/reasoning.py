"""Questions of several steps as data: what follows from a scene, and the facts that it follows from.

A query is {"kind": …} with what the kind asks about. `conclude` serves for making examples and for answering by what
was read, as `answers.answer` does for plain questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from cm3leon_jax.data.scenes.facts import Exists, Fact, HasPlace, HasSize, Related, named, related
from cm3leon_jax.data.scenes.world import PLACES, SIZES, Scene, SceneObject

Query = Mapping[str, str]
STEPS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # rows, columns
LINES = {"top row": ("row", 0), "bottom row": ("row", 2), "left column": ("column", 0), "right column": ("column", 2)}


class Conclusion(NamedTuple):
    answer: str
    facts: tuple[Fact, ...]  # in the order in which an explanation states them
    last: str  # the last sentence of the explanation, which states no new fact; it ends in the answer


def conclude(query: Query, scene: Scene) -> Conclusion | None:
    """None where the scene does not allow the question."""
    return _KINDS[query["kind"]](query, scene)


def moved(place: str, direction: str) -> str | None:
    """The place that is one step further; None beyond the grid."""
    (row, column), (down, right) = divmod(PLACES.index(place), 3), STEPS[direction]
    row, column = row + down, column + right
    return PLACES[3 * row + column] if 0 <= row < 3 and 0 <= column < 3 else None


def mirrored(place: str) -> str:
    """The place with left and right exchanged."""
    row, column = divmod(PLACES.index(place), 3)
    return PLACES[3 * row + 2 - column]


def _extreme(query: Query, scene: Scene) -> Conclusion | None:
    """ "what colour is the largest object?" """
    return _compare(query, scene.objects, f"the {query['extreme']} object", place_matters=False)


def _extreme_of_line(query: Query, scene: Scene) -> Conclusion | None:
    """ "which colour has the larger of the two objects in the left column?" """
    attribute, number = LINES[query["line"]]
    items = tuple(item for item in scene.objects if getattr(item, attribute) == number)
    if len(items) != 2:
        return None
    return _compare(query, items, f"the {query['extreme']} of the two", place_matters=True)


def _compare(query: Query, items: tuple[SceneObject, ...], what: str, *, place_matters: bool) -> Conclusion | None:
    is_largest = query["extreme"] in ("largest", "larger")
    ordered = sorted(items, key=lambda item: SIZES[item.size], reverse=is_largest)
    if len(items) < 2 or ordered[0].size == ordered[1].size:
        return None
    facts: list[Fact] = []
    for item in items:
        facts.append(Exists(item.colour, item.shape))
        facts.append(HasSize(item.colour, item.shape, item.size))
        facts += [HasPlace(item.colour, item.shape, item.place)] * place_matters
    answer = getattr(ordered[0], query["asks"])
    return Conclusion(answer, tuple(facts), _ending(f"so {what} is", query["asks"], answer))


def _ending(start: str, asks: str, answer: str) -> str:
    return f"{start} a {answer}." if asks == "shape" else f"{start} {answer}."


def _beside(query: Query, scene: Scene) -> Conclusion | None:
    """ "what shape is the object above the blue star?" """
    anchors = named(scene, query["colour"], query["shape"])
    found = [item for item in scene.objects if anchors and related(item, query["relation"], anchors[0])]
    if len(found) != 1:
        return None
    facts: list[Fact] = []
    for item in (anchors[0], found[0]):
        facts += [Exists(item.colour, item.shape), HasPlace(item.colour, item.shape, item.place)]
    one = found[0]
    facts.append(Related(one.colour, one.shape, query["relation"], query["colour"], query["shape"]))
    answer = getattr(one, query["asks"])
    return Conclusion(answer, tuple(facts), _ending("so it is", query["asks"], answer))


def _step(query: Query, scene: Scene) -> Conclusion | None:
    """ "where is the red circle after one step to the right?" """
    items = named(scene, query["colour"], query["shape"])
    to = moved(items[0].place, query["direction"]) if items else None
    return _elsewhere(items[0], to, "after the step") if to else None


def _mirror(query: Query, scene: Scene) -> Conclusion | None:
    """ "where is the red circle in the mirror?" """
    items = named(scene, query["colour"], query["shape"])
    return _elsewhere(items[0], mirrored(items[0].place), "in the mirror") if items else None


def _elsewhere(item: SceneObject, place: str, when: str) -> Conclusion:
    facts = (Exists(item.colour, item.shape), HasPlace(item.colour, item.shape, item.place))
    return Conclusion(place, facts, f"so {when} its place is the {place}.")


_KINDS: dict[str, Callable[[Query, Scene], Conclusion | None]] = {
    "extreme": _extreme,
    "extreme of line": _extreme_of_line,
    "beside": _beside,
    "step": _step,
    "mirror": _mirror,
}
SCIENCE_KINDS = tuple(_KINDS)
