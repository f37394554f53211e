"""What is done to a prepared instruction to make an example: it is worded and laid out, with the places of its answers.
Uses and randomness are those of `preprocessors.py`; what is hidden is drawn later, on rows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cm3leon_jax.data.inspection.rendering import TextDecoder
from cm3leon_jax.data.preprocessors import Features, Preprocessor, draw_key
from cm3leon_jax.documents import Document, SequenceError, Span, assemble, segment_spans
from cm3leon_jax.instructions.instruction import Instruction
from cm3leon_jax.instructions.tasks import draw_wording
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary


class TextEncoder(TextDecoder, Protocol):
    """A text tokenizer."""

    @property
    def fingerprint(self) -> str: ...

    def encode_parts(self, parts: Sequence[str]) -> list[np.ndarray]:
        """A text in parts -> joint ids of each, int32 [T]: together, those of the whole text."""


@dataclasses.dataclass(frozen=True)
class WordInstruction(Preprocessor):
    """An instruction in one of its wordings, drawn anew each time it is used, as a sequence."""

    stage = 3
    adds = ("tokens", "retrieved", "answers", "key")  # the third: where the answers begin and end, [2 * answers]

    text_tokenizer: TextEncoder
    vocabulary: Vocabulary

    def apply(self, example: Features, rng: np.random.Generator) -> Features:
        wording = draw_wording(json.loads(example["instruction"]), rng)
        images = np.split(example["image"], wording.images or 1)
        tokens, answers = lay_out(wording, images, self.text_tokenizer, self.vocabulary)
        return {
            "tokens": tokens,
            "retrieved": np.zeros(1, np.int32),
            "answers": np.array([[span.start, span.stop] for span in answers], np.int32).reshape(-1),
            "key": draw_key(rng),
        }

    @property
    def settings(self) -> dict[str, Any]:
        return {"vocabulary": dataclasses.asdict(self.vocabulary), "text_tokenizer": self.text_tokenizer.fingerprint}


def lay_out(
    instruction: Instruction, images: Sequence[np.ndarray], text_tokenizer: TextEncoder, vocabulary: Vocabulary
) -> tuple[np.ndarray, list[Span]]:
    """The sequence of an instruction with its pictures' codes, int32 [length], and where its answers stand in it."""
    documents, parts = [], []  # of each text and picture in turn: lengths of its parts, and which are answers
    given = iter(images)
    for document in instruction.documents:
        texts = text_tokenizer.encode_parts(document.spaced_parts)
        image = next(given) if document.has_image else np.zeros(0, np.int32)
        documents.append(Document(np.concatenate([np.zeros(0, np.int32), *texts]), image))
        parts.append([(len(ids), part.is_answer) for ids, part in zip(texts, document.texts, strict=True)])
        parts.append([(len(image), document.image_is_answer)])
    try:
        ids = assemble(documents, vocabulary)
    except SequenceError as error:
        raise UserError(f"an instruction does not fit the vocabulary ({error}): prepare the data again") from None
    answers = []
    for segment, of_segment in zip(segment_spans(ids, vocabulary), parts, strict=True):
        start = segment.start
        for length, is_answer in of_segment:
            answers += [Span(start, start + length)] * (is_answer and length > 0)
            start += length
    return ids, answers
