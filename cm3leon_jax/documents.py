"""What a document is, and how documents become one sequence and are read back.

One example (CM3Leon §2.3, figure 9), the query pair last:

    <eos> T1 <break> I1 <break> T2 <break> I2 <break> … Tq <break> Iq <eos>

A document always owns two segments, its text and its image, either of which may be empty; so a text-only document is
`T <break>` with nothing behind the break, and reading back is exact. CM3 masking (§2.3) puts a sentinel where a span
stood and appends the span to a tail before the last `<eos>`:

    <eos> <sentinel:0> <break> I <sentinel:0> T <eoss> <eos>

Training, prompts and the reading of generated sequences all use the functions of this file.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cm3leon_jax.vocabulary import EOS_ID, Vocabulary


class SequenceError(ValueError):
    """A token sequence that breaks the layout."""


def _as_ids(values) -> np.ndarray:
    ids = np.asarray(values, dtype=np.int32).reshape(-1)
    ids.setflags(write=False)
    return ids


@dataclasses.dataclass(frozen=True, eq=False)
class Document:
    """Text (joint ids, [T]) and image (codes, [N], 0-based as the image tokenizer gives them); either may be empty."""

    text: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    image: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _as_ids(self.text))
        object.__setattr__(self, "image", _as_ids(self.image))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        return np.array_equal(self.text, other.text) and np.array_equal(self.image, other.image)


@dataclasses.dataclass(frozen=True)
class Span:
    """Positions `start` up to, not including, `stop` of an assembled sequence, to be hidden behind one sentinel."""

    start: int
    stop: int


def assemble(documents: Sequence[Document], vocabulary: Vocabulary) -> np.ndarray:
    """Documents, the query last -> ids, int32 [length]. Raises `SequenceError` on ids outside their range."""
    if not documents:
        raise SequenceError("a sequence holds at least one document")
    parts = [np.array([EOS_ID], np.int32)]
    separator = np.array([vocabulary.break_id], np.int32)
    for index, document in enumerate(documents):
        if not vocabulary.is_text(document.text).all():
            raise SequenceError(f"the text of document {index} holds ids that are not text pieces")
        try:
            image = vocabulary.image_ids(document.image)
        except ValueError as error:
            raise SequenceError(f"document {index}: {error}") from None
        if index:
            parts.append(separator)
        parts += [document.text, separator, image]
    parts.append(np.array([EOS_ID], np.int32))
    return np.concatenate(parts)


def parse(ids: np.ndarray, vocabulary: Vocabulary) -> list[Document]:
    """The inverse of `assemble`, masked sequences included: `parse(mask(assemble(x), spans)) == x`.

    Raises `SequenceError` on anything that `assemble` and `mask` could not have written.
    """
    ids = unmask(ids, vocabulary)
    if len(ids) < 3 or ids[0] != EOS_ID or ids[-1] != EOS_ID:
        raise SequenceError("a sequence starts and ends with <eos>")
    body = ids[1:-1]
    segments = np.split(body, np.flatnonzero(body == vocabulary.break_id))
    segments = [segments[0], *(segment[1:] for segment in segments[1:])]
    if len(segments) % 2:
        raise SequenceError("a document is cut off: every document has a text and an image segment")
    documents = []
    for text, image in zip(segments[::2], segments[1::2], strict=True):
        if not vocabulary.is_text(text).all():
            raise SequenceError("a text segment holds ids that are not text pieces")
        if not vocabulary.is_image(image).all():
            raise SequenceError("an image segment holds ids that are not image tokens")
        documents.append(Document(text, vocabulary.image_codes(image)))
    return documents


def segment_spans(ids: np.ndarray, vocabulary: Vocabulary) -> list[Span]:
    """The text and image segments of an assembled (not masked) sequence, in order, empty ones included."""
    inner = np.flatnonzero(ids == vocabulary.break_id)
    edges = [0, *inner.tolist(), len(ids) - 1]
    return [Span(left + 1, right) for left, right in itertools.pairwise(edges)]


class Segment(NamedTuple):
    """The ids of one text or one image."""

    span: Span
    is_text: bool
    whole: bool  # from its beginning to its end; a text: and so is the image that belongs to it
    document: int  # a number that a text and its image share


def segments_of_block(ids: np.ndarray, vocabulary: Vocabulary) -> list[Segment]:
    """The text and image segments of any stretch of (not masked) sequences one after another, in order, but empty
    ones. The stretch may begin and end anywhere."""
    ends = np.flatnonzero((ids == vocabulary.break_id) | (ids == EOS_ID)).tolist()
    found = []
    for number, (before, behind) in enumerate(itertools.pairwise([-1, *ends, len(ids)])):
        if behind == before + 1:
            continue
        is_text = bool(vocabulary.is_text(ids[before + 1]))
        # The segment's end, or that of the image behind it, is in the stretch.
        ended = number + is_text < len(ends)
        found.append(Segment(Span(before + 1, behind), is_text, before >= 0 and ended, number + is_text))
    return found


@dataclasses.dataclass(frozen=True)
class PositionRule:
    """How positions are counted. As it stands here, a token's position is its index, as in the paper.

    Small models learn in far fewer steps what always stands at the same positions, so: `stride` n lets what follows a
    `<break>` begin at the next multiple of n, whatever the length of the text before an image; `query_at` m lets the
    last document (the query) begin at m, whatever the number of retrieved documents before it.
    """

    stride: int = 0
    query_at: int = 0


COUNTED = PositionRule()  # the paper's


def positions(ids: np.ndarray, vocabulary: Vocabulary, rule: PositionRule) -> np.ndarray:
    """The position of each id of a sequence, masked or not, or of one that lacks something behind its last `<break>`.

    int32 [length]. Raises `SequenceError` where the retrieved documents take more than `query_at` positions.
    """
    ids = np.asarray(ids)
    breaks = np.flatnonzero(ids == vocabulary.break_id)
    if not rule.query_at:
        return _aligned(len(ids), breaks, rule.stride)
    query = int(breaks[-2]) + 1 if len(breaks) > 1 else 1  # behind <eos>, or the <break> that ends the one before it
    before = _aligned(query + 1, breaks[breaks < query], rule.stride)
    if before[-1] > rule.query_at:
        raise SequenceError(
            f"the retrieved documents take {before[-1]} positions and query_at is {rule.query_at}; retrieve fewer, or "
            "train with a higher query_at"
        )
    behind = _aligned(len(ids) - query, breaks[breaks >= query] - query, rule.stride)
    return np.concatenate([before[:-1] - before[-1], behind]) + np.int32(rule.query_at)


def _aligned(length: int, breaks: np.ndarray, stride: int) -> np.ndarray:
    places = np.arange(length, dtype=np.int32)
    if stride:
        for follower in (breaks[breaks < length - 1] + 1).tolist():
            places[follower:] += -places[follower] % stride
    return places


def mask(ids: np.ndarray, spans: Sequence[Span], vocabulary: Vocabulary) -> np.ndarray:
    """Hides each span behind `<sentinel:i>` and appends `<sentinel:i> span <eoss>` before the final `<eos>`.

    Spans are non-empty, in order, do not overlap, and stay inside one segment (never across `<break>`, CM3Leon §2.3);
    otherwise `SequenceError`. Each span makes the sequence three ids longer.
    """
    if len(spans) > vocabulary.num_sentinels:
        raise SequenceError(f"{len(spans)} spans, but {vocabulary.num_sentinels} sentinels")
    end = 1
    for span in spans:
        if not end <= span.start < span.stop <= len(ids) - 1:
            raise SequenceError(f"{span} is empty, out of order or outside the sequence")
        if (ids[span.start : span.stop] == vocabulary.break_id).any():
            raise SequenceError(f"{span} crosses <break>")
        end = span.stop
    return hide_spans(np.asarray(ids, np.int32), spans, vocabulary, tail_at=len(ids) - 1)


def hide_spans(ids: np.ndarray, spans: Sequence[Span], vocabulary: Vocabulary, *, tail_at: int) -> np.ndarray:
    """`mask` on any stretch of sequences [length], whose tail is to stand before its index `tail_at`; spans end there
    or earlier. -> [length + 3 * spans]."""
    sentinels = vocabulary.sentinel_offset + np.arange(len(spans))
    return moved(ids, spans, sentinels, np.full(len(spans), vocabulary.eoss_id), tail_at=tail_at)


def moved(
    values: np.ndarray, spans: Sequence[Span], sentinels: np.ndarray, enders: np.ndarray, *, tail_at: int
) -> np.ndarray:
    """What `hide_spans` does to ids, to any values [length] of them: `sentinels` and `enders` [spans] are the values of
    the ids that it adds. -> [length + 3 * spans], of the type of `values`."""
    body, tail, end = [], [], 0
    for span, sentinel, ender in zip(spans, sentinels, enders, strict=True):
        body += [values[end : span.start], [sentinel]]
        tail += [[sentinel], values[span.start : span.stop], [ender]]
        end = span.stop
    return np.concatenate([*body, values[end:tail_at], *tail, values[tail_at:]]).astype(values.dtype)


def unmask(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The inverse of `mask`: puts every tail span back where its sentinel stands. Raises `SequenceError`.

    A span in the tail may be empty, though `mask` writes none: a model may end what it fills in at once.
    """
    ids = np.asarray(ids, np.int32)
    sentinels = np.flatnonzero(vocabulary.is_sentinel(ids))
    if not len(sentinels):
        return ids
    if len(sentinels) % 2 or ids[0] != EOS_ID or ids[-1] != EOS_ID:
        raise SequenceError("every sentinel stands twice between <eos> and <eos>: in place and before its span")
    count = len(sentinels) // 2
    expected = vocabulary.sentinel_offset + np.arange(count)
    places, starts = sentinels[:count], sentinels[count:]
    if not (np.array_equal(ids[places], expected) and np.array_equal(ids[starts], expected)):
        raise SequenceError("sentinels are not numbered 0, 1, 2, … in place and again in the tail")
    tail_ends = [*starts[1:].tolist(), len(ids) - 1]
    pieces = []
    position = 0
    for place, start, stop in zip(places, starts, tail_ends, strict=True):
        if ids[stop - 1] != vocabulary.eoss_id:
            raise SequenceError("a span in the tail does not end with <eoss>")
        hidden = ids[start + 1 : stop - 1]
        if not (vocabulary.is_text(hidden) | vocabulary.is_image(hidden)).all():
            raise SequenceError("a span in the tail holds other ids than text and image tokens")
        pieces += [ids[position:place], hidden]
        position = place + 1
    return np.concatenate([*pieces, ids[position : starts[0]], ids[-1:]])
