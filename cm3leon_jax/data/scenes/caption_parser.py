"""Captions -> facts: the exact inverse of `captions.write_caption`, and tolerant of garbled text.

A text is read clause by clause (clauses end at punctuation, "and" and "with"). In a clause, a place belongs to the
object before it, or to the object after it if there is none before; "is small" belongs to the object before it; a
relation joins the objects on its two sides. Whatever does not fit is passed over and counted as not understood.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from cm3leon_jax.data.scenes.facts import Count, Exists, Fact, HasPlace, HasSize, Related
from cm3leon_jax.data.scenes.phrases import NUMBERS
from cm3leon_jax.data.scenes.world import COLOURS, PLACES, SHAPES, SIZES


@dataclasses.dataclass(frozen=True)
class ParsedCaption:
    facts: tuple[Fact, ...]  # without repetition, in the order: objects as named, relations, count
    understood: float  # share of the words that were read as part of a fact or of the grammar around it, 0…1


def _any(phrases: Iterable[str]) -> str:
    # Longest first: "top left" must not be read as "top".
    return "|".join(phrase.replace(" ", r"\s+") for phrase in sorted(phrases, key=len, reverse=True))


_TOKEN = re.compile(
    rf"""
    (?P<object>(?:(?:an?|the)\s+)?(?:(?P<size>{_any(SIZES)})\s+)?(?P<colour>{_any(COLOURS)})\s+(?P<shape>{_any(SHAPES)})\b)
    |(?P<relation>(?:to\s+the\s+)?(?P<how>left\s+of|right\s+of|above|below)\b)
    |(?P<place>(?:(?:in|at|on)\s+the\s+)?(?P<where>{_any(PLACES)}|middle)(?:\s+corner)?\b)
    |(?P<predicate>is\s+(?P<predicated>{_any(SIZES)})\b)
    |(?P<number>(?P<digit>{_any(NUMBERS)})\s+(?:object|shape)s?\b)
    |(?P<separator>[,;.]|(?:and|together\s+with|with)\b)
    |(?P<filler>on\s+a\s+plain\s+background\b
        |(?:a\s+picture|an\s+image|a\s+drawing)\s+of\b|this\s+picture\s+shows\b|(?:there|here)\s+is\b|is\b|:)
    |(?P<other>\w+|\S)
    """,
    re.VERBOSE,
)

_Name = tuple[str, str]  # colour, shape
_ORDER = (Exists, HasSize, HasPlace)  # of the facts about one object, whatever the order of the words


class _Reading:
    """What has been read so far, and the state of the present clause."""

    def __init__(self) -> None:
        self.objects: dict[_Name, list[Fact]] = {}
        self.relations: list[Fact] = []
        self.counts: list[Fact] = []
        self.misread = 0  # words
        self.start_clause()

    def start_clause(self) -> None:
        self.misread += len(getattr(self, "waiting", "").split())  # a place that no object followed
        self.waiting = ""  # the words of a place that waits for its object
        self.place: str | None = None
        self.subject: _Name | None = None
        self.relation: str | None = None

    def read_object(self, name: _Name, size: str | None) -> None:
        facts = self.objects.setdefault(name, [Exists(*name)])
        if size:
            facts.append(HasSize(*name, size))
        if self.place:
            facts.append(HasPlace(*name, self.place))
        if self.relation and self.subject:
            self.relations.append(Related(*self.subject, self.relation, *name))
        self.subject, self.relation, self.place, self.waiting = name, None, None, ""

    def read_place(self, place: str, words: str) -> None:
        if self.subject:
            self.objects[self.subject].append(HasPlace(*self.subject, place))
        else:
            self.misread += len(self.waiting.split())
            self.place, self.waiting = place, words

    def read(self, match: re.Match) -> None:
        """Takes in one match of `_TOKEN`."""
        words = match.group()
        if match["object"]:
            self.read_object((match["colour"], match["shape"]), match["size"])
        elif match["relation"] and self.subject:
            self.relation = " ".join(match["how"].split())
        elif match["place"]:
            place = " ".join(match["where"].split())
            self.read_place("center" if place == "middle" else place, words)
        elif match["predicate"] and self.subject:
            self.objects[self.subject].append(HasSize(*self.subject, match["predicated"]))
        elif match["number"]:
            self.counts.append(Count(NUMBERS.index(match["digit"]) + 1))
        elif match["separator"]:
            self.start_clause()
        elif not match["filler"]:
            self.misread += len(re.findall(r"\w+", words))


def parse_caption(text: str) -> ParsedCaption:
    """Any text -> the facts that it states. Never raises; a text without facts gives none."""
    text = text.lower()
    reading = _Reading()
    for match in _TOKEN.finditer(text):
        reading.read(match)
    reading.start_clause()
    facts: list[Fact] = []
    for about_one in reading.objects.values():
        facts += sorted(about_one, key=lambda fact: _ORDER.index(type(fact)))
    facts += reading.relations + reading.counts
    words = len(re.findall(r"\w+", text))
    return ParsedCaption(tuple(dict.fromkeys(facts)), 1 - min(reading.misread, words) / words if words else 0.0)
