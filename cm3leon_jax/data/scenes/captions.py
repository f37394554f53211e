"""Scenes -> captions in natural language, each with the facts that it states.

A caption names some or all objects by colour and shape, and may add their sizes, places, relations and their count. The
language is small (about 60 words), lower case, and unambiguous: `caption_parser.parse_caption` reads every caption
back into exactly the facts that it states, in the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from cm3leon_jax.data.scenes.facts import RELATIONS, Count, Fact, Related, related
from cm3leon_jax.data.scenes.phrases import NUMBERS, Mention, article, counted, join, noun, pick, thing, things, where
from cm3leon_jax.data.scenes.world import PLACES, Scene
from cm3leon_jax.runtime.errors import UserError

OPENINGS = ("", "", "there is ", "here is ", "a picture of ", "an image of ", "a drawing of ", "this picture shows ")
ENDINGS = ("", "", "", ".", " on a plain background")


@dataclasses.dataclass(frozen=True)
class CaptionConfig:
    """Probabilities, each of one independent choice."""

    mention_all: float = 0.85  # all objects are named; else a random part of them, at least one
    state_size: float = 0.7  # for each named object
    state_place: float = 0.7  # for each named object
    reading_order: float = 0.7  # objects are named from top left to bottom right; else in random order

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value <= 1:
                raise UserError(f"{name} = {value}: give a probability from 0 to 1")


@dataclasses.dataclass(frozen=True)
class Caption:
    text: str
    facts: tuple[Fact, ...]  # stated by the text, in the order: objects as named, relations, count


def write_caption(rng: np.random.Generator, scene: Scene, config: CaptionConfig) -> Caption:
    """A random caption of a scene, a pure function of the generator's state. Everything that it states is true."""
    mentions = _choose_mentions(rng, scene, config)
    relation = _choose_relation(rng, mentions)
    styles: list[_Style] = [*[_list] * 5, _places_first, _labels, _sentences, _predicates]
    if len(mentions) == len(scene.objects):
        styles += [_counted, _counted]
    text, tail = pick(rng, styles)(rng, mentions), []
    # A relation either takes the place of the text (two objects) or follows it.
    if relation and rng.random() < 0.3:
        one, how, other = relation
        tail.append(Related(one.item.colour, one.item.shape, how, other.item.colour, other.item.shape))
        sideways = how in ("left of", "right of")
        if len(mentions) == 2 and rng.random() < 0.7:
            mentions = [one, other]
            # "at the top left of" would be read two ways.
            to_the = "to the " if sideways and (one.place or rng.random() < 0.5) else ""
            text = f"{pick(rng, OPENINGS)}{thing(rng, one)} {to_the}{how} {thing(rng, other)}"
        else:
            to_the = pick(rng, ("", "to the ")) if sideways else ""
            text = f"{text.removesuffix('.')}; the {one.name} is {to_the}{how} the {other.name}"
    facts = [fact for mention in mentions for fact in mention.facts()] + tail
    if text.startswith(NUMBERS):
        facts.append(Count(len(mentions)))
    return Caption(text, tuple(facts))


def _choose_mentions(rng: np.random.Generator, scene: Scene, config: CaptionConfig) -> list[Mention]:
    items = [scene.objects[index] for index in rng.permutation(len(scene.objects))]
    if rng.random() >= config.mention_all:
        items = items[: 1 + int(rng.random() * len(items))]
    if rng.random() < config.reading_order:
        items.sort(key=lambda item: PLACES.index(item.place))
    return [
        Mention(
            item,
            item.size if rng.random() < config.state_size else None,
            item.place if rng.random() < config.state_place else None,
        )
        for item in items
    ]


def _choose_relation(rng: np.random.Generator, mentions: list[Mention]) -> tuple[Mention, str, Mention] | None:
    """Two mentioned objects, and the relation between them along the axis in which they are further apart."""
    if len(mentions) < 2:
        return None
    one, other = (mentions[index] for index in rng.permutation(len(mentions))[:2])
    across, down = abs(one.item.column - other.item.column), abs(one.item.row - other.item.row)
    relations = RELATIONS[:2] if across >= down else RELATIONS[2:]
    return one, next(relation for relation in relations if related(one.item, relation, other.item)), other


_Style = Callable[[np.random.Generator, list[Mention]], str]


def _list(rng: np.random.Generator, mentions: list[Mention]) -> str:
    """ "a picture of a large red circle at the top and a blue star"."""
    return pick(rng, OPENINGS) + things(rng, mentions) + pick(rng, ENDINGS)


def _counted(rng: np.random.Generator, mentions: list[Mention]) -> str:
    """ "two objects: a large red circle at the top and a blue star"."""
    return f"{counted(len(mentions), pick(rng, ('object', 'shape')))}: {things(rng, mentions)}"


def _places_first(rng: np.random.Generator, mentions: list[Mention]) -> str:
    """ "at the top is a large red circle, a blue star"."""
    verb = pick(rng, (" ", " is ", " there is "))
    return join(rng, [f"{where(rng, item.place)}{verb}{noun(item)}" if item.place else noun(item) for item in mentions])


def _labels(rng: np.random.Generator, mentions: list[Mention]) -> str:
    """ "top: a large red circle; a blue star"."""
    del rng
    return "; ".join(f"{mention.place}: {noun(mention)}" if mention.place else noun(mention) for mention in mentions)


def _sentences(rng: np.random.Generator, mentions: list[Mention]) -> str:
    """ "a large red circle is at the top. there is a blue star."."""
    return " ".join(
        f"{noun(mention)} is {where(rng, mention.place)}." if mention.place else f"there is {noun(mention)}."
        for mention in mentions
    )


def _predicates(rng: np.random.Generator, mentions: list[Mention]) -> str:
    """ "the red circle at the top is large, there is a blue star"."""
    phrases = []
    for mention in mentions:
        place = f" {where(rng, mention.place)}" if mention.place else ""
        if mention.size:
            phrases.append(f"the {mention.name}{place} is {mention.size}")
        else:
            phrases.append(f"there is {article(mention.name)}{place}")
    return join(rng, phrases)
