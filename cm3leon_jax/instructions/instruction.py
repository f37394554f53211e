"""One instruction: texts and pictures in the order in which the model reads them, its answers marked.

What a model is trained on and what it is asked for are the same thing here: in training the answers are there, in a
prompt they are holes. The answer of a text stands before the picture that it is about, as captions do, so answering is
infilling (CM3Leon §4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cm3leon_jax.tokenizers.spaces import strip_spaces

# In the metadata of a document: `Instruction.to_dict`, or a task with its fields. No column of a user's data is it.
KEY = "cm3leon.instruction"
AT_ONCE = "follows_at_once"  # of a part that is a text: as in `Text`


class Text(NamedTuple):
    """A part of a text. `follows_at_once`: no space stands between it and the part before."""

    text: str
    is_answer: bool = False
    follows_at_once: bool = False


@dataclasses.dataclass(frozen=True)
class InstructionDocument:
    """Texts, and whether a picture stands behind them."""

    texts: tuple[Text, ...] = ()
    has_image: bool = True
    image_is_answer: bool = False

    @property
    def spaced_parts(self) -> list[str]:
        """Of each part what stands in the text, with the space before it."""
        return [
            part.text if not number or part.follows_at_once else f" {part.text}"
            for number, part in enumerate(self.texts)
        ]

    @property
    def text(self) -> str:
        return "".join(self.spaced_parts)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """Documents; the pictures themselves are kept beside it, in their order."""

    documents: tuple[InstructionDocument, ...]

    @property
    def images(self) -> int:
        return sum(document.has_image for document in self.documents)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: {"parts": [{"text": …} or {"image": true}, …], "answers": [their places among the parts]}."""
        parts: list[dict[str, Any]] = []
        answers: list[int] = []
        for document in self.documents:
            marked: list[tuple[dict[str, Any], bool]] = [(_written(part), part.is_answer) for part in document.texts]
            if document.has_image:
                marked.append(({"image": True}, document.image_is_answer))
            for part, is_answer in marked:
                answers += [len(parts)] * is_answer
                parts.append(part)
        return {"parts": parts, "answers": answers}


def _written(part: Text) -> dict[str, Any]:
    return {"text": part.text, AT_ONCE: True} if part.follows_at_once else {"text": part.text}


def from_parts(parts: Sequence[Mapping[str, Any]], answers: Sequence[int] = ()) -> Instruction:
    """`parts`: each {"text": …} or {"image": …}, in order; a text behind a picture begins the next document, one behind
    a text goes on in it, after a space if it does not say "follows_at_once": true. `answers`: places among the parts.
    `ValueError` where a part is neither, or an answer is none of them."""
    wrong = [place for place in answers if type(place) is not int or not 0 <= place < len(parts)]  # True is no place
    if wrong or isinstance(answers, str):
        raise ValueError(f"answers are places among the {len(parts)} parts, counted from 0, not {wrong or answers!r}")
    documents: list[InstructionDocument] = []
    texts: list[Text] = []
    for place, part in enumerate(parts):
        said = {name: value for name, value in part.items() if name != AT_ONCE} if isinstance(part, Mapping) else {}
        kind, value = next(iter(said.items())) if len(said) == 1 else ("", None)
        if kind == "text" and isinstance(value, str) and value.strip():
            texts.append(Text(strip_spaces(value), place in answers, part.get(AT_ONCE) is True))
        elif kind == "image" and value:
            documents.append(InstructionDocument(tuple(texts), True, place in answers))
            texts = []
        else:
            raise ValueError(f'part {place} is neither {{"text": …}} nor {{"image": …}}')
    if texts:
        documents.append(InstructionDocument(tuple(texts), False))
    return Instruction(tuple(documents))
