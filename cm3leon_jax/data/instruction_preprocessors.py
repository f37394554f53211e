"""What is done to a prepared instruction to make a training sequence: it is worded and laid out, then its answers, or
whatever CM3's objective draws, are hidden. Uses and randomness are those of `preprocessors.py`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cm3leon_jax.data.inspection.rendering import TextDecoder
from cm3leon_jax.data.objective import ObjectiveConfig, choose_spans
from cm3leon_jax.data.preprocessors import Example, Preprocessor
from cm3leon_jax.documents import Document, SequenceError, Span, assemble, mask, moved, segment_spans
from cm3leon_jax.instructions.instruction import Instruction
from cm3leon_jax.instructions.tasks import draw_wording
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary


class TextEncoder(TextDecoder, Protocol):
    """A text tokenizer."""

    @property
    def fingerprint(self) -> str: ...

    def encode(self, text: str) -> np.ndarray:
        """-> joint ids, int32 [T]."""


@dataclasses.dataclass(frozen=True)
class WordInstruction(Preprocessor):
    """An instruction in one of its wordings, drawn anew each time it is used, as a sequence."""

    stage = 3
    adds = ("tokens", "retrieved", "answers")  # the last: where the answers begin and end, [2 * answers]

    text_tokenizer: TextEncoder
    vocabulary: Vocabulary

    def apply(self, example: Example, rng: np.random.Generator) -> Example:
        wording = draw_wording(json.loads(example["instruction"]), rng)
        images = np.split(example["image"], wording.images or 1)
        tokens, answers = lay_out(wording, images, self.text_tokenizer, self.vocabulary)
        return {
            "tokens": tokens,
            "retrieved": np.zeros(1, np.int32),
            "answers": np.array([[span.start, span.stop] for span in answers], np.int32).reshape(-1),
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
        texts = [text_tokenizer.encode(part.text) for part in document.texts]
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


@dataclasses.dataclass(frozen=True)
class MaskInstruction(Preprocessor):
    """Hides spans: by CM3's objective, or, with the loss on answers alone, just the answers in texts."""

    stage = 4
    adds = ("tokens", "scored")  # the second: 1 for each id that counts in the loss, [length]

    vocabulary: Vocabulary
    objective: ObjectiveConfig
    answers_alone: bool = False

    def apply(self, example: Example, rng: np.random.Generator) -> Example:
        ids = example["tokens"]
        answers = [Span(int(start), int(stop)) for start, stop in example["answers"].reshape(-1, 2)]
        in_texts = [span for span in answers if not self.vocabulary.is_image(ids[span.start : span.start + 1])[0]]
        if not self.answers_alone:
            spans = choose_spans(ids, self.vocabulary, rng, self.objective, in_texts)
            return {"tokens": self._hidden(ids, spans), "scored": np.ones(len(ids) + 3 * len(spans), np.int32)}
        of_answers = np.zeros(len(ids), np.int32)
        for span in answers:
            of_answers[span.start : span.stop] = 1
        scored = moved(of_answers, in_texts, [0] * len(in_texts), 0)
        scored[1:] |= scored[:-1]  # with what ends an answer: <eoss>, <break> or <eos>
        return {"tokens": self._hidden(ids, in_texts), "scored": scored}

    def _hidden(self, ids: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
        try:
            return mask(ids, spans, self.vocabulary)
        except SequenceError as error:
            raise UserError(f"the answers of an instruction cannot be hidden: {error}") from None

    @property
    def settings(self) -> dict[str, Any]:
        return {"objective": dataclasses.asdict(self.objective), "answers_alone": self.answers_alone}
