"""Task "vqa": a question about a scene, and its answer of one or two words."""

from __future__ import annotations

import numpy as np

from cm3leon_jax.data.scenes.phrases import pick, where
from cm3leon_jax.data.scenes.tasks.answers import Query, answer
from cm3leon_jax.data.scenes.tasks.example import Made, Situation, in_random_order
from cm3leon_jax.data.scenes.tasks.queries import draw_query


def make_vqa(rng: np.random.Generator, situation: Situation) -> Made:
    """Kind, query and answer are in the metadata."""
    scene = situation.scene
    query = draw_query(rng, scene)
    said = answer(query, scene)
    metadata = {"scene": scene.to_dict(), "kind": query["kind"], "query": query, "answer": said}
    return Made({"question": in_random_order(rng, question_wordings(rng, query)), "answer": said}, metadata)


def question_wordings(rng: np.random.Generator, query: Query) -> list[str]:
    """The question in several ways that mean the same."""
    name = " ".join(query[part] for part in ("colour", "shape") if part in query)
    other = f"{query.get('other_colour')} {query.get('other_shape')}"
    at = where(rng, query["place"]) if "place" in query else ""
    match query["kind"]:
        case "colour":
            one = f"the object {at}" if at else f"the {name}"
            return [f"what colour is {one}?", f"which colour does {one} have?"]
        case "shape":
            if at:
                return [f"what shape is {at}?", f"which shape is {at}?"]
            return [f"what shape is the {name} object?", f"which shape does the {name} object have?"]
        case "size":
            return [f"what size is the {name}?", f"which size does the {name} have?"]
        case "place":
            return [f"where is the {name}?", f"in which place is the {name}?"]
        case "count":
            what = f"{query['shape']}s" if "shape" in query else f"{name} objects".strip()
            what = {"crosss": "crosses"}.get(what, what)
            return [f"how many {what} are there?", f"what is the number of {what}?"]
        case "exists":
            one = f"an {name}" if name.startswith("orange") else f"a {name}"
            return [f"is there {one}?", f"does the picture show {one}?"]
        case "larger":
            one, two = pick(rng, ((name, other), (other, name)))
            return [f"which is larger, the {one} or the {two}?", f"which is the larger one, the {one} or the {two}?"]
        case "relation":
            to_the = "to the " if query["relation"] in ("left of", "right of") else ""
            return [
                f"is the {name} {to_the}{query['relation']} the {other}?",
                f"does the {name} stand {to_the}{query['relation']} the {other}?",
            ]
    raise ValueError(f"no question of kind {query['kind']!r}")
