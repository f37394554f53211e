"""What captions, questions and instructions are made of: how an object, a place or a number of things is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from cm3leon_jax.data.scenes.facts import Exists, Fact, HasPlace, HasSize
from cm3leon_jax.data.scenes.world import SceneObject

NUMBERS = ("one", "two", "three", "four")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Mention:
    """An object as a caption names it; None where the caption does not say."""

    item: SceneObject
    size: str | None
    place: str | None

    @property
    def name(self) -> str:
        return f"{self.item.colour} {self.item.shape}"

    def facts(self) -> list[Fact]:
        colour, shape = self.item.colour, self.item.shape
        facts: list[Fact] = [Exists(colour, shape)]
        if self.size:
            facts.append(HasSize(colour, shape, self.size))
        if self.place:
            facts.append(HasPlace(colour, shape, self.place))
        return facts


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of them, each as likely."""
    return options[int(rng.random() * len(options))]


def article(words: str) -> str:
    """ "a red circle", "an orange circle"."""
    return f"an {words}" if words.startswith("orange") else f"a {words}"


def counted(number: int, noun: str) -> str:
    """ "two objects"."""
    return f"{NUMBERS[number - 1]} {noun}{'s' if number > 1 else ''}"


def noun(mention: Mention) -> str:
    """ "a large red circle"."""
    return article(f"{mention.size} {mention.name}" if mention.size else mention.name)


def where(rng: np.random.Generator, place: str) -> str:
    """ "in the top left corner"."""
    if place == "center":
        return pick(rng, ("in the center", "in the middle"))
    if " " in place:
        return pick(rng, (f"in the {place}", f"in the {place}", f"at the {place}", f"in the {place} corner"))
    return f"on the {place}" if place in ("left", "right") else f"at the {place}"


def thing(rng: np.random.Generator, mention: Mention) -> str:
    """ "a large red circle in the top left corner"."""
    return f"{noun(mention)} {where(rng, mention.place)}" if mention.place else noun(mention)


def join(rng: np.random.Generator, phrases: list[str], last: Sequence[str] = (" and ", ", ")) -> str:
    """ "a, b and c", with one of `last` before the last phrase."""
    return ", ".join(phrases[:-1]) + pick(rng, last) + phrases[-1] if len(phrases) > 1 else phrases[0]


def things(rng: np.random.Generator, mentions: list[Mention]) -> str:
    """ "a large red circle at the top, a star and a ring"."""
    each = [thing(rng, mention) for mention in mentions]
    return join(rng, each, (" and ", " and ", ", ", " with ", " together with "))
