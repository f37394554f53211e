"""What a decoder is asked for: the ids it reads, and for each step after them whether a token is drawn or given.

A prompt is a *template* for each stream: the complete sequence as training would have laid it out (`documents.py`),
with a negative number where a token is to be drawn. What stands before the first of these is read at once; from there
on each step either draws or is forced to the template's token (as the `<eoss>` and sentinel between two hidden parts).

Every request is documents with holes (`compose`). A hole that nothing given follows is drawn where it stands, as a
picture behind its text is. A hole that something given follows is hidden behind a sentinel and drawn at the end: CM3's
infilling (CM3Leon §2.3). What is drawn for the mask sentinel in place of the text, or of the picture, is the other
stream of guidance and contrastive decoding (§3.1).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Collection, Sequence

import numpy as np

from cm3leon_jax.documents import Document, SequenceError, Span, assemble, mask, parse, segment_spans
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import EOS_ID, UNK_ID, Vocabulary

DRAW = -1  # an image code is drawn
DRAW_SPAN = -2  # a text piece, or the <eoss> that ends a hidden span
DRAW_TEXT = -3  # a text piece, or the <break> that ends a text where it stands
IMAGE = "image"  # a prompt draws image codes alone
TEXT = "text"  # spans of text alone
BOTH = "both"
HIDDEN = -1  # among image codes: one that is to be drawn


@dataclasses.dataclass(frozen=True)
class TextHole:
    """A text that is to be drawn: at most so many tokens."""

    max_tokens: int = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Draft:
    """A document with holes. `text`: given ids [T] and `TextHole`s, in order; `image`: codes [N], `HIDDEN` where one is
    to be drawn. Either may be empty."""

    text: Sequence[np.ndarray | TextHole] = ()
    image: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """Templates, int32 [length], one a stream: that with everything given first, that with the least last. They draw
    and are forced at the same steps, counted from the first draw. `documents`: how many, of the last, were asked for.
    `reads_break`: whether a `<break>` is forced during the steps.
    """

    templates: tuple[np.ndarray, ...]
    documents: int = 1
    reads_break: bool = False

    @property
    def conditional(self) -> np.ndarray:
        return self.templates[0]

    @property
    def unconditional(self) -> np.ndarray:
        return self.templates[-1]

    @functools.cached_property
    def start(self) -> tuple[int, ...]:
        """Length of what is read before the first draw, in each template."""
        return tuple(int(np.argmax(template < 0)) for template in self.templates)

    @functools.cached_property
    def steps(self) -> int:
        """Steps from the first draw to the last, forced ones between them included."""
        return int(np.flatnonzero(self.conditional < 0)[-1]) + 1 - self.start[0]

    @property
    def length(self) -> int:
        """Tokens up to the last draw of the longest template: what must fit into the model's `max_length`."""
        return max(self.start) + self.steps

    @property
    def plan(self) -> np.ndarray:
        """The conditional template's part for the steps."""
        return self.conditional[self.start[0] : self.start[0] + self.steps]

    @functools.cached_property
    def draws(self) -> str:
        """`IMAGE`, `TEXT` or `BOTH`. With the former two no `<break>` is read during the steps."""
        if self.reads_break:
            return BOTH
        drawn = set(self.plan[self.plan < 0].tolist())
        return IMAGE if drawn == {DRAW} else TEXT if drawn == {DRAW_SPAN} else BOTH

    @property
    def seed(self) -> int:
        """A number, 32 bits, that differs from prompt to prompt and not from batch to batch: a hash of the ids."""
        ids = np.maximum(self.conditional, DRAW)
        return int.from_bytes(hashlib.sha256(ids.astype("<i4").tobytes()).digest()[:4], "little")

    @functools.cached_property
    def text_ends(self) -> np.ndarray:
        """For each step in which text is drawn, the step of the template's token that ends the text; int32 [steps]."""
        is_text = self.plan < DRAW
        ends = np.flatnonzero(~np.append(is_text, False))
        return np.where(is_text, ends[np.searchsorted(ends, np.arange(self.steps))], 0).astype(np.int32)

    def with_documents_alone(self, vocabulary: Vocabulary) -> Prompt:
        """Of a picture behind a text and retrieved documents: its other stream without the sentinel that stands for the
        text, `<eos> documents … <break>`, as in the authors' evaluation script. Other prompts as they are."""
        head, rest = np.split(self.unconditional, [self.start[-1]])
        sentinels = np.flatnonzero(vocabulary.is_sentinel(head)).tolist()
        breaks = np.flatnonzero(head == vocabulary.break_id)
        if sentinels != [len(head) - 2] or breaks[-1] != len(head) - 1 or len(breaks) < 3:
            return self
        less = np.concatenate([np.delete(head, -2), rest])
        return dataclasses.replace(self, templates=(*self.templates[:-1], less))

    def complete(self, drawn: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
        """The whole sequence, given the tokens of the steps [>= steps], each at its step: it can be parsed.

        A text ends at its first `<eoss>` or `<break>`, or where its steps do; what was passed over then is left out.
        """
        drawn, kept, step = np.asarray(drawn, np.int32), [], 0
        while step < min(self.steps, len(drawn)):
            ended = self.plan[step] < DRAW and drawn[step] in (vocabulary.eoss_id, vocabulary.break_id)
            step = int(self.text_ends[step]) if ended else step
            if step < self.steps:
                kept.append(drawn[step] if self.plan[step] < 0 else self.plan[step])
            step += 1
        rest = self.start[0] + self.steps
        return np.concatenate([self.conditional[: self.start[0]], kept, self.conditional[rest:]]).astype(np.int32)

    def drawn_texts(self, drawn: np.ndarray, vocabulary: Vocabulary) -> list[np.ndarray]:
        """What alone was drawn into each hole of the texts, ids [T], in the order in which the holes are read: of the
        tokens of the steps [>= steps], negative where they were not reached. Neighbouring holes are one."""
        # Holes of the tail come before those in place when they are read, and after them when they are drawn.
        holes = [span for kind in (DRAW_SPAN, DRAW_TEXT) for span in hidden_spans(self.plan == kind, 0)]
        texts = [np.asarray(drawn, np.int32)[hole.start : hole.stop] for hole in holes]
        return [text[: np.argmin(np.append(vocabulary.is_text(text), False))] for text in texts]

    def parse(self, drawn: np.ndarray, vocabulary: Vocabulary) -> list[Document]:
        """The documents asked for, with what was drawn put in its place."""
        return parse(self.complete(drawn, vocabulary), vocabulary)[-self.documents :]

    def parse_unfinished(self, drawn: np.ndarray, vocabulary: Vocabulary) -> list[Document]:
        """The same of a row that is still being drawn: `drawn` is negative at steps that were not reached. Codes that
        are missing are `HIDDEN`; of a text there is what was drawn."""
        drawn = np.where((self.plan < 0) & (np.asarray(drawn) >= 0), drawn, self.plan)
        drawn[drawn == DRAW_SPAN] = vocabulary.eoss_id
        drawn[drawn == DRAW_TEXT] = vocabulary.break_id
        # What is missing is what differs when something else is put there.
        one, other = (
            self.parse(np.where(drawn == DRAW, vocabulary.image_offset + code, drawn), vocabulary) for code in (0, 1)
        )
        return [
            Document(a.text, np.where(a.image == b.image, a.image, HIDDEN)) for a, b in zip(one, other, strict=True)
        ]


def text_to_image(
    text: np.ndarray, retrieved: Sequence[Document], *, image_tokens: int, vocabulary: Vocabulary
) -> Prompt:
    """Text ids [T] -> an image of `image_tokens` codes.

    Conditional: `<eos> [retrieved] text <break>`; unconditional: `<eos> [retrieved] <sentinel:0> <break>`.
    """
    _needs_text(text)
    return compose([Draft([text], np.full(image_tokens, HIDDEN))], retrieved, vocabulary=vocabulary)


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
    _needs_text(text)
    return compose([Draft([text], np.where(hidden, HIDDEN, image))], retrieved, vocabulary=vocabulary)


def image_to_text(image: np.ndarray, retrieved: Sequence[Document], *, max_text: int, vocabulary: Vocabulary) -> Prompt:
    """Image codes [N] -> a text of at most `max_text` ids, by filling in the hidden text.

    `<eos> [retrieved] <sentinel:0> <break> image <sentinel:0>`, then text until `<eoss>`. In the unconditional stream
    the image is hidden behind `<sentinel:1>`.
    """
    if not len(image) or max_text < 1:
        raise UserError("a text is drawn for an image with at least one code, and is at least one token long")
    return compose([Draft([TextHole(max_text)], image)], retrieved, vocabulary=vocabulary)


def edit_image(
    instruction: np.ndarray, image: np.ndarray, *, task: np.ndarray, image_tokens: int, vocabulary: Vocabulary
) -> Prompt:
    """Image codes [N] and an instruction [T] -> an image of `image_tokens` codes, in three streams (CM3Leon §4.1).

    `<eos> task <break> image <break> instruction <break>`, `task` being the words before the first image in training;
    then the same with the instruction hidden, and with the instruction and the image hidden.
    """
    _needs_text(instruction)
    drafts = [Draft([task], image), Draft([instruction], np.full(image_tokens, HIDDEN))]
    # Of the segments: 0 is the task, 1 the image, 2 the instruction.
    prompt = compose(drafts, [], vocabulary=vocabulary, less=({2}, {1, 2}))
    return dataclasses.replace(prompt, documents=1)  # the image that was given is no answer


def compose(
    drafts: Sequence[Draft],
    context: Sequence[Document] = (),
    *,
    vocabulary: Vocabulary,
    less: Sequence[Collection[int]] | None = None,
) -> Prompt:
    """Documents with holes, behind those of `context` (the retrieved ones, which all streams read).

    `less`: for each further stream, the numbers of the drafts' segments (text and image of the first, of the second, …)
    that it does not read: what is given in them is hidden behind a sentinel, or left out of a text with holes. By
    default one: all texts where pictures are drawn, else all pictures. Raises `UserError` where nothing is to be drawn,
    or what is given was not made for this vocabulary.
    """
    ids, spans = _assembled(context, drafts, vocabulary)
    if not (ids < 0).any():
        raise UserError("nothing is to be drawn; leave a hole in the text or in the image")
    if less is None:
        texts, images = (set(range(first, 2 * len(drafts), 2)) for first in (0, 1))
        less = (texts if (ids == DRAW).any() else images,)
    prompt = Prompt(tuple(_template(ids, spans, hidden, vocabulary) for hidden in ((), *less)), len(drafts))
    return dataclasses.replace(prompt, reads_break=bool((prompt.plan == vocabulary.break_id).any()))


def hidden_spans(hidden: np.ndarray, start: int) -> list[Span]:
    """Runs of True in a mask [N] over a segment that begins at `start` -> spans of the sequence."""
    edges = np.flatnonzero(np.diff(hidden.astype(np.int8), prepend=0, append=0))
    return [Span(start + int(first), start + int(last)) for first, last in edges.reshape(-1, 2)]


def _needs_text(text: np.ndarray) -> None:
    if not len(text):
        raise UserError("a picture is drawn from a text; write what it should show")


def _assembled(
    context: Sequence[Document], drafts: Sequence[Draft], vocabulary: Vocabulary
) -> tuple[np.ndarray, list[Span]]:
    """The whole sequence, negative where something is drawn (texts with `DRAW_SPAN`), and the drafts' segments."""
    documents, holes = list(context), []
    for draft in drafts:
        pieces = [np.full(p.max_tokens, UNK_ID) if isinstance(p, TextHole) else np.asarray(p) for p in draft.text]
        marks = [np.full(len(i), isinstance(p, TextHole)) for i, p in zip(pieces, draft.text, strict=True)]
        image = np.asarray(draft.image, np.int32)
        text = np.concatenate([np.zeros(0, np.int32), *pieces])
        documents.append(Document(text, np.where(image == HIDDEN, 0, image)))
        holes += [np.concatenate([np.zeros(0, bool), *marks]), image == HIDDEN]
    try:
        ids = assemble(documents, vocabulary)
    except SequenceError as error:
        raise UserError(f"this cannot be made a prompt: {error}; was it tokenised for another model?") from None
    spans = segment_spans(ids, vocabulary)[-len(holes) :]
    for span, hole, kind in zip(spans, holes, (DRAW_SPAN, DRAW) * len(drafts), strict=True):
        ids[span.start : span.stop][hole] = kind
    return ids, spans


def _template(ids: np.ndarray, segments: list[Span], hidden: Collection[int], vocabulary: Vocabulary) -> np.ndarray:
    """The sequence with its holes, and the given parts of `hidden` segments not there."""
    in_place = _drawn_where_they_stand(ids, segments)
    ids, left_out = ids.copy(), np.zeros(len(ids), bool)
    moved: list[Span] = []
    never_told: list[Span] = []
    for number, segment in enumerate(segments):
        values = ids[segment.start : segment.stop]
        drawn = values < 0
        if number >= in_place and drawn.all():
            values[values == DRAW_SPAN] = DRAW_TEXT
            continue
        moved += hidden_spans(drawn, segment.start)
        if number in hidden and not drawn.any() and len(values):
            never_told.append(segment)
        elif number in hidden and (values == DRAW_SPAN).any():
            left_out[segment.start : segment.stop] = ~drawn
    spans = sorted([*moved, *never_told], key=lambda span: span.start)
    try:
        masked = mask(ids, spans, vocabulary)
    except SequenceError as error:
        raise UserError(f"this cannot be asked for: {error}; hide fewer parts") from None
    if not spans:
        return masked
    # In the tail: sentinel, span, <eoss> for each. Spans that are never told are left out of it.
    body = np.delete(masked[: len(ids) - 1 - sum(s.stop - s.start - 1 for s in spans)], _places(left_out, spans))
    tail, at = [], len(masked) - 1 - sum(span.stop - span.start + 2 for span in spans)
    for span in spans:
        stop = at + span.stop - span.start + 2
        tail += [] if span in never_told else [masked[at:stop]]
        at = stop
    return np.concatenate([body, *tail, [EOS_ID]]).astype(np.int32)


def _drawn_where_they_stand(ids: np.ndarray, segments: list[Span]) -> int:
    """The number of the first segment behind which nothing is given."""
    first = len(segments)
    while first and (ids[segments[first - 1].start : segments[first - 1].stop] < 0).all():
        first -= 1
    return first


def _places(left_out: np.ndarray, spans: list[Span]) -> np.ndarray:
    """Places of the whole sequence that are `left_out` -> those in its masked body, where each span is one sentinel."""
    kept = np.ones(len(left_out), bool)
    for span in spans:
        kept[span.start + 1 : span.stop] = False
    return np.flatnonzero(left_out[kept])
