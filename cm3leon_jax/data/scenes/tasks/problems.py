"""What can be asked in several steps about a scene: every question of every kind, and how it is worded."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from cm3leon_jax.data.scenes.facts import RELATIONS
from cm3leon_jax.data.scenes.tasks.reasoning import LINES, STEPS, Query, conclude
from cm3leon_jax.data.scenes.world import Scene

Asked = dict[str, str]
MIRROR = "in a mirror left and right change places."


def allowed_queries(scene: Scene) -> dict[str, list[Asked]]:
    """By kind, those that the scene allows; kinds without any are left out."""
    found = {
        kind: [asked for each in candidates(scene) if conclude(asked := {"kind": kind, **each}, scene)]
        for kind, candidates in _CANDIDATES.items()
    }
    return {kind: queries for kind, queries in found.items() if queries}


def context(query: Query) -> str:
    """What has to be known besides the picture; "" mostly."""
    return MIRROR if query["kind"] == "mirror" else ""


def wordings(query: Query) -> list[str]:
    """The question in several ways that mean the same."""
    name = f"{query.get('colour')} {query.get('shape')}"
    asks = query.get("asks", "")
    match query["kind"]:
        case "extreme":
            return [
                f"what {asks} is the {query['extreme']} object?",
                f"which {asks} has the {query['extreme']} object?",
            ]
        case "extreme of line":
            what = f"the {query['extreme']} of the two objects in the {query['line']}"
            return [f"which {asks} has {what}?", f"what {asks} is {what}?"]
        case "beside":
            to_the = "to the " if query["relation"] in ("left of", "right of") else ""
            what = f"the object {to_the}{query['relation']} the {name}"
            return [f"what {asks} is {what}?", f"which {asks} has {what}?"]
        case "step":
            way = f"to the {query['direction']}" if query["direction"] in ("left", "right") else query["direction"]
            return [f"where is the {name} after one step {way}?", f"the {name} goes one step {way}. where is it then?"]
        case "mirror":
            return [f"where is the {name} in the mirror?", f"in which place does the mirror show the {name}?"]
    raise ValueError(f"no question of kind {query['kind']!r}")


def _extremes(scene: Scene) -> list[Asked]:
    del scene
    return [{"extreme": how, "asks": asks} for how in ("largest", "smallest") for asks in ("colour", "shape")]


def _extremes_of_lines(scene: Scene) -> list[Asked]:
    del scene
    each = itertools.product(("larger", "smaller"), LINES, ("colour", "shape"))
    return [{"extreme": how, "line": line, "asks": asks} for how, line, asks in each]


def _besides(scene: Scene) -> list[Asked]:
    return [
        {"colour": item.colour, "shape": item.shape, "relation": relation, "asks": asks}
        for item, relation, asks in itertools.product(scene.objects, RELATIONS, ("colour", "shape"))
    ]


def _steps(scene: Scene) -> list[Asked]:
    each = itertools.product(scene.objects, STEPS)
    return [{"colour": item.colour, "shape": item.shape, "direction": direction} for item, direction in each]


def _mirrors(scene: Scene) -> list[Asked]:
    return [{"colour": item.colour, "shape": item.shape} for item in scene.objects]


_CANDIDATES: dict[str, Callable[[Scene], list[Asked]]] = {
    "extreme": _extremes,
    "extreme of line": _extremes_of_lines,
    "beside": _besides,
    "step": _steps,
    "mirror": _mirrors,
}
