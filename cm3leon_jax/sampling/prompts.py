"""What a decoder is asked for: the ids it reads, and for each step after them whether a token is drawn or given.

A prompt is a *template*: the complete sequence as training would have laid it out (`documents.py`), with `DRAW` where a
token is to be drawn. What stands before the first `DRAW` is read at once; from there on each step either draws or is
forced to the template's token (the `<eoss>` and next sentinel between two hidden parts of an image).

The second template of a prompt is the unconditional one (CM3Leon §3.1): the retrieved documents stay, and what the
picture is to be drawn from is hidden behind a sentinel whose span never comes.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.documents import Document, SequenceError, Span, assemble, mask, parse, segment_spans
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import EOS_ID, UNK_ID, Vocabulary

DRAW = -1  # a token to be drawn
IMAGE = "image"  # image codes are drawn
TEXT = "text"  # text pieces are drawn, up to <eoss>


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """Two templates, int32 [length], with `DRAW` equally often in both, and what is drawn there: `IMAGE` or `TEXT`."""

    draws: str
    conditional: np.ndarray
    unconditional: np.ndarray

    @property
    def start(self) -> tuple[int, int]:
        """Length of what is read before the first draw, in the two templates."""
        return int(np.argmax(self.conditional == DRAW)), int(np.argmax(self.unconditional == DRAW))

    @property
    def steps(self) -> int:
        """Steps from the first draw to the last, forced ones between them included."""
        return int(np.flatnonzero(self.conditional == DRAW)[-1]) + 1 - self.start[0]

    @property
    def length(self) -> int:
        """Tokens up to the last draw of the longer template: what must fit into the model's `max_length`."""
        return max(self.start) + self.steps

    @property
    def seed(self) -> int:
        """A number, 32 bits, that differs from prompt to prompt and not from batch to batch: a hash of the ids."""
        return int.from_bytes(hashlib.sha256(self.conditional.astype("<i4").tobytes()).digest()[:4], "little")

    def complete(self, drawn: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
        """The whole sequence, given the tokens of the steps [>= steps] as they came: it can be parsed.

        A text ends at its first `<eoss>`, or where the steps do.
        """
        drawn = np.asarray(drawn, np.int32)[: self.steps]
        if self.draws == TEXT and (ends := np.flatnonzero(drawn == vocabulary.eoss_id)).size:
            drawn = drawn[: ends[0]]
        rest = self.start[0] + self.steps
        return np.concatenate([self.conditional[: self.start[0]], drawn, self.conditional[rest:]])

    def parse(self, drawn: np.ndarray, vocabulary: Vocabulary) -> Document:
        """The document asked for, with what was drawn put in its place."""
        return parse(self.complete(drawn, vocabulary), vocabulary)[-1]


def text_to_image(
    text: np.ndarray, retrieved: Sequence[Document], *, image_tokens: int, vocabulary: Vocabulary
) -> Prompt:
    """Text ids [T] -> an image of `image_tokens` codes.

    Conditional: `<eos> [retrieved] text <break>`; unconditional: `<eos> [retrieved] <sentinel:0> <break>`.
    """
    document = Document(text, np.zeros(image_tokens, np.int32))
    return _image_prompt(document, np.ones(image_tokens, bool), retrieved, vocabulary, moved=False)


def fill_image(
    text: np.ndarray, image: np.ndarray, hidden: np.ndarray, retrieved: Sequence[Document], *, vocabulary: Vocabulary
) -> Prompt:
    """Draws the codes of `image` [N] where `hidden` [N] is True, given the rest and the text.

    Each run of hidden codes stands behind a sentinel of its own and is drawn in the tail, to its exact length:
    `<eos> [retrieved] text <break> codes <sentinel:0> codes … <sentinel:0> drawn <eoss> <sentinel:1> drawn …`. In the
    unconditional stream the text is `<sentinel:0>`, the image's spans count from 1, and the text's span is left out.
    """
    image, hidden = np.asarray(image, np.int32), np.asarray(hidden, bool)
    if image.shape != hidden.shape:
        raise UserError(f"the mask has shape {hidden.shape} and the image's codes {image.shape}; they must be equal")
    if not hidden.any():
        raise UserError("nothing is hidden; mark the part of the image that is to be filled in")
    return _image_prompt(Document(text, image), hidden, retrieved, vocabulary, moved=True)


def image_to_text(image: np.ndarray, retrieved: Sequence[Document], *, max_text: int, vocabulary: Vocabulary) -> Prompt:
    """Image codes [N] -> a text of at most `max_text` ids, by filling in the hidden text.

    `<eos> [retrieved] <sentinel:0> <break> image <sentinel:0>`, then text until `<eoss>`. In the unconditional stream
    the image is hidden behind `<sentinel:1>`.
    """
    if not len(image) or max_text < 1:
        raise UserError("a text is drawn for an image with at least one code, and is at least one token long")
    ids = _assemble([*retrieved, Document(np.full(max_text, UNK_ID, np.int32), image)], vocabulary)
    *_, text_span, image_span = segment_spans(ids, vocabulary)
    ids[text_span.start : text_span.stop] = DRAW
    templates = []
    for spans in ([text_span], [text_span, image_span]):
        masked = mask(ids, spans, vocabulary)
        end = int(np.flatnonzero(masked == DRAW)[-1]) + 1
        templates.append(np.append(masked[:end], np.array([vocabulary.eoss_id, EOS_ID], np.int32)))
    return Prompt(TEXT, *templates)


def hidden_spans(hidden: np.ndarray, start: int) -> list[Span]:
    """Runs of True in a mask [N] over a segment that begins at `start` -> spans of the sequence."""
    edges = np.flatnonzero(np.diff(hidden.astype(np.int8), prepend=0, append=0))
    return [Span(start + int(first), start + int(last)) for first, last in edges.reshape(-1, 2)]


def _image_prompt(
    document: Document, hidden: np.ndarray, retrieved: Sequence[Document], vocabulary: Vocabulary, *, moved: bool
) -> Prompt:
    """`hidden` codes of the document's image are drawn: in the tail if `moved`, else where they stand."""
    if not len(document.text) or not len(document.image):
        raise UserError("a picture is drawn from a text; write what it should show")
    ids = _assemble([*retrieved, document], vocabulary)
    *_, text_span, image_span = segment_spans(ids, vocabulary)
    ids[image_span.start : image_span.stop][hidden] = DRAW
    spans = hidden_spans(hidden, image_span.start) if moved else []
    try:
        conditional = mask(ids, spans, vocabulary)
        unconditional = mask(ids, [text_span, *spans], vocabulary)
    except SequenceError as error:
        raise UserError(f"this cannot be asked for: {error}; hide fewer parts") from None
    text_tail = np.flatnonzero(vocabulary.is_sentinel(unconditional))[1 + len(spans)]
    unconditional = np.delete(unconditional, np.s_[text_tail : text_tail + len(document.text) + 2])
    return Prompt(IMAGE, conditional, unconditional)


def _assemble(documents: Sequence[Document], vocabulary: Vocabulary) -> np.ndarray:
    try:
        return assemble(documents, vocabulary)
    except SequenceError as error:
        raise UserError(f"this cannot be made a prompt: {error}; was it tokenised for another model?") from None
