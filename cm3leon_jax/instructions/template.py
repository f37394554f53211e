"""Templates: how the fields of an example become an instruction.

    Question: {question} Answer: {answer}. <break> {image}

Between `<break>`s stand, in turn, texts with fields, and a picture: a field whose name begins with `image`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping

from cm3leon_jax.instructions.instruction import Instruction, InstructionDocument, Text

_FIELD = re.compile(r"\{(\w+)\}")
_BREAK = re.compile(r"\s*<break>\s*")


def is_image(field: str) -> bool:
    return field.startswith("image")


@dataclasses.dataclass(frozen=True)
class Template:
    """`answers`: the fields that are the answer. `instead`: what stands in a field that is empty. `ValueError` where
    the pattern is not as said above."""

    pattern: str
    answers: frozenset[str]
    instead: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, segment in enumerate(self._segments):
            named = [field for field in _FIELD.findall(segment) if is_image(field)]
            if named if number % 2 == 0 else segment != "{" + "".join(named) + "}":
                raise ValueError(f"template {self.pattern!r}: between <break>s stand a text and a picture in turn")
        if not self.answers & set(self.fields):
            raise ValueError(f"template {self.pattern!r} has no field that is an answer ({', '.join(self.answers)})")

    @functools.cached_property
    def _segments(self) -> list[str]:
        return _BREAK.split(self.pattern.strip())

    @functools.cached_property
    def fields(self) -> tuple[str, ...]:
        """In the order in which they stand."""
        return tuple(_FIELD.findall(self.pattern))

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """The fields that are texts."""
        return tuple(field for field in self.fields if not is_image(field))

    @functools.cached_property
    def images(self) -> tuple[str, ...]:
        """The fields that are pictures."""
        return tuple(field for field in self.fields if is_image(field))

    @property
    def given_texts(self) -> tuple[str, ...]:
        """Those of the texts that are no answer."""
        return tuple(field for field in self.texts if field not in self.answers)

    @property
    def given_images(self) -> tuple[str, ...]:
        """Those of the pictures that are no answer."""
        return tuple(field for field in self.images if field not in self.answers)

    def fill(self, values: Mapping[str, str]) -> Instruction:
        """The instruction with these texts in its fields. `KeyError` names one that is missing."""
        documents = []
        for place in range(0, len(self._segments), 2):
            texts = self._texts(self._segments[place], values)
            image = _FIELD.findall(self._segments[place + 1]) if place + 1 < len(self._segments) else []
            documents.append(InstructionDocument(texts, bool(image), bool(set(image) & self.answers)))
        return Instruction(tuple(documents))

    def _texts(self, segment: str, values: Mapping[str, str]) -> tuple[Text, ...]:
        """Neighbouring parts that are no answers are one. A line's end before an answer stays: it is a token."""
        texts: list[Text] = []
        given = ""
        at_once = False  # whether what was said last ended without a space
        for number, part in enumerate(_FIELD.split(segment)):  # literal, field, literal, …
            value = (values[part].strip() or self.instead.get(part, "")) if number % 2 else part
            if number % 2 and part in self.answers:
                texts += _given(given, at_once)
                at_once = not given.endswith(" ") if given else at_once
                texts.append(Text(value, True, bool(texts) and at_once))
                given, at_once = "", True
            else:
                given += value
        texts += _given(given, at_once)
        return tuple(texts)


def _given(text: str, at_once: bool) -> list[Text]:
    """A part that is no answer, if there is any, behind one that did not end with a space (`at_once`) or none."""
    return [Text(text.strip(" "), False, at_once and not text.startswith(" "))] * bool(text.strip(" "))
