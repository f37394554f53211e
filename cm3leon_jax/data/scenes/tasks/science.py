"""Task "science": a question of several steps with three options, an explanation, and the answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.scenes.facts import Fact, HasPlace, HasSize, Related, fact_to_dict
from cm3leon_jax.data.scenes.phrases import pick, where
from cm3leon_jax.data.scenes.tasks.example import Made, Situation, in_random_order
from cm3leon_jax.data.scenes.tasks.problems import allowed_queries, context, wordings
from cm3leon_jax.data.scenes.tasks.reasoning import Conclusion, Query, conclude
from cm3leon_jax.data.scenes.world import COLOURS, PLACES, SHAPES, Scene

OPTIONS = ("(A)", "(B)", "(C)")


def make_science(rng: np.random.Generator, situation: Situation) -> Made:
    """Every kind that the scene allows is as likely, and so is every option. The options, the facts that the
    explanation uses, and kind, query and answer ("(B) red") are in the metadata."""
    scene = situation.scene
    queries = allowed_queries(scene)
    query = pick(rng, queries[pick(rng, list(queries))])
    conclusion = conclude(query, scene)
    assert conclusion is not None
    options = in_random_order(rng, [conclusion.answer, *_distractors(rng, query, conclusion.answer, scene)])
    answer = option_text(options, conclusion.answer)
    fields: dict[str, str | list[str]] = {
        "question": in_random_order(rng, wordings(query)),
        "context": context(query),
        "choices": " ".join(option_text(options, option) for option in options),
        "explanation": explain(rng, conclusion),
        "answer": answer,
    }
    facts = [fact_to_dict(fact) for fact in conclusion.facts]
    metadata = {"scene": scene.to_dict(), "kind": query["kind"], "query": query, "options": options, "answer": answer}
    return Made(fields, {**metadata, "facts": facts})


def option_text(options: Sequence[str], option: str) -> str:
    """ "(B) red"; "" where it is none of them."""
    return f"{OPTIONS[options.index(option)]} {option}" if option in options else ""


def explain(rng: np.random.Generator, conclusion: Conclusion) -> str:
    """The facts used in the language of captions, and what follows: `caption_parser.parse_caption` reads the facts."""
    said = [_sentence(rng, fact) for fact in conclusion.facts]
    return " ".join([*filter(None, said), conclusion.last])


def _sentence(rng: np.random.Generator, fact: Fact) -> str:
    """ "" for what other sentences say besides."""
    match fact:
        case HasSize():
            return f"the {fact.colour} {fact.shape} is {fact.size}."
        case HasPlace():
            return f"the {fact.colour} {fact.shape} is {where(rng, fact.place)}."
        case Related():
            to_the = "to the " if fact.relation in ("left of", "right of") else ""
            other = f"{fact.other_colour} {fact.other_shape}"
            return f"the {fact.colour} {fact.shape} is {to_the}{fact.relation} the {other}."
    return ""


def _distractors(rng: np.random.Generator, query: Query, answer: str, scene: Scene) -> list[str]:
    """Two wrong options; of values that occur in the scene the first."""
    attribute = query.get("asks", "place")
    occurring = in_random_order(rng, sorted({getattr(item, attribute) for item in scene.objects}))
    anything = in_random_order(rng, {"colour": tuple(COLOURS), "shape": SHAPES, "place": PLACES}[attribute])
    others = [value for value in dict.fromkeys([*occurring, *anything]) if value != answer]
    return others[: len(OPTIONS) - 1]
