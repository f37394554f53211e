"""The CM3 objective: which spans of a row are hidden behind sentinels and moved to its end (CM3Leon §2.3).

Spans are drawn on what the model sees at once, so that a sentinel and its span are always in one row: on a block of
examples that lie one after another, or on an example that is packed whole. The loss is then plain next-token
prediction, with the same weight on every token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cm3leon_jax.data.randomness import keyed_rng
from cm3leon_jax.documents import Segment, Span, hide_spans, moved, segments_of_block
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import EOS_ID, Vocabulary

MODES = ("poisson", "fixed", "fim")

# A draw that is empty or runs into an earlier span is drawn again, so often; then that span is left out. The first
# span of a row with any content practically always succeeds, so the share of causal rows is as configured.
_ATTEMPTS = 16
_IDS_A_MASK = 6  # masks add at most half of a row, which matters for rows of a few ids
_STAGE = 1 << 32  # of the random numbers; those of preprocessors are small


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """How many spans of a row are hidden, and which. The defaults are CM3Leon's, but for whole segments."""

    # "poisson": Poisson(rate) spans, so that exp(-rate) of the rows (37%) stay causal. "fixed": `rate` spans, an
    # integer. "fim" (fill in the middle): one span in a share `rate` <= 1 of the rows, none in the others.
    mode: str = "poisson"
    rate: float = 1.0
    max_spans: int = 511  # spans a row; never more than the vocabulary has sentinels
    # Chance that the masks of a row take whole text or image segments instead of random spans, all of them or none.
    # Not published, and 0 in the authors' code; but two uniform draws hide a whole caption of ~9 tokens in at most 0.1%
    # of masks, and guidance, CD-K and captioning all rely on a model that knows an image behind `<sentinel:0> <break>`.
    whole_segment_probability: float = 0.3
    # Of whole segments, those that are texts rather than images. None: each segment of the row is as likely, as in the
    # authors' code.
    whole_text_share: float | None = None
    # Chance that all answers in an instruction's texts are hidden, each as a span of its own, and nothing else of it:
    # what a model is asked to fill in, and random spans hardly ever hide.
    answer_probability: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"unknown objective mode {self.mode!r}; use one of {', '.join(MODES)}")
        if self.rate < 0 or self.max_spans < 0:
            raise UserError(f"the objective's rate and max_spans must not be negative: {self.rate}, {self.max_spans}")
        if self.mode == "fixed" and self.rate != int(self.rate):
            raise UserError(f"objective mode 'fixed' hides `rate` spans: {self.rate} is not a whole number")
        for name in ("whole_segment_probability", "whole_text_share", "answer_probability"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"the objective's {name} is a probability, not {value}")
        if self.mode == "fim" and self.rate > 1:
            raise UserError(f"objective mode 'fim' hides one span in a share `rate` <= 1 of rows, not {self.rate}")


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One training example, before anything is hidden: ids int32 [n], `retrieved` documents before its query, and where
    an instruction's answers stand. `key` (0 … 2^62 - 1) is random: what is drawn for it depends on nothing else."""

    ids: np.ndarray
    key: int = 0
    retrieved: int = 0
    answers: tuple[Span, ...] = ()


class _Asked(NamedTuple):
    """An instruction in a block whose answers in texts are hidden."""

    span: Span
    answers: list[Span]


class Hidden(NamedTuple):
    """Ids after spans were moved to the tail, int32 [n]; of each, whether it counts in the loss (bool; None: all do)
    and how many documents were retrieved for its example (int32). `used`: how many ids before masking they are."""

    ids: np.ndarray
    scored: np.ndarray | None
    retrieved: np.ndarray
    used: int


@dataclasses.dataclass(frozen=True)
class Objective:
    """CM3's; or, with `answers_alone`, just the answers in texts are hidden, all of them, and only answers count."""

    vocabulary: Vocabulary
    config: ObjectiveConfig = ObjectiveConfig()
    answers_alone: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What rows depend on besides their examples, JSON-able."""
        return {"objective": dataclasses.asdict(self.config), "answers_alone": self.answers_alone}

    def longest(self, example: Example) -> int:
        """The number of its ids when all of its answers in texts are hidden."""
        return len(example.ids) + 3 * len(self._in_texts(example, 0))

    def hide_in_example(self, example: Example, length: int) -> Hidden:
        """An example for itself, with its tail before the last `<eos>`. One that is too long for `length` ids is cut
        before spans are drawn; the tail is then at the end."""
        return self._hide([example], 0, length, closed=True)

    def hide_in_block(self, examples: Sequence[Example], begin: int, length: int) -> Hidden:
        """`length` ids of examples that lie one after another, from id `begin` of the first one on, the tail at the
        end, as in the authors' code. What masks add, the block takes less of its examples. UserError: an instruction
        has more answers than there are sentinels."""
        return self._hide(examples, begin, length, closed=False)

    def _hide(self, examples: Sequence[Example], begin: int, length: int, *, closed: bool) -> Hidden:
        ids = np.concatenate([example.ids for example in examples])[begin:]
        starts = (np.cumsum([0, *(len(example.ids) for example in examples[:-1])]) - begin).tolist()
        rng = keyed_rng(examples[0].key, _STAGE, 0, begin)
        most = min(self.config.max_spans, self.vocabulary.num_sentinels)
        masks = 0 if self.answers_alone else min(_number_of_masks(rng, self.config), most, length // _IDS_A_MASK)
        if closed:  # an example that fits is not cut for the sake of masks, and its answers come first
            masks = min(masks, max(0, length - len(ids)) // 3) if len(ids) <= length else masks
        asked = self._asked(examples, starts, length - (0 if closed else 3 * masks), rng)
        answers = [span for own in asked for span in own.answers]
        masks = 0 if closed and answers else min(masks, max(0, most - len(answers)))
        source = min(len(ids), length - 3 * (masks + len(answers)))
        taken_up = [own.span for own in asked]
        spans = choose_spans(ids[:source], self.vocabulary, rng, self.config, masks, answers, taken_up)
        source = min(len(ids), length - 3 * len(spans))
        tail_at = source - 1 if closed and source == len(ids) else source
        begins = np.array([span.start for span in spans], np.int64)
        origins = moved(np.arange(source), spans, begins, begins, tail_at=tail_at)
        retrieved = np.repeat([each.retrieved for each in examples], [len(each.ids) for each in examples])[begin:]
        return Hidden(
            hide_spans(ids[:source], spans, self.vocabulary, tail_at=tail_at),
            self._scored(ids[:source], examples, starts, spans, tail_at) if self.answers_alone else None,
            retrieved[origins].astype(np.int32),
            source,
        )

    def _asked(
        self, examples: Sequence[Example], starts: Sequence[int], room: int, rng: np.random.Generator
    ) -> list[_Asked]:
        """Those of the instructions with answers in texts that are drawn to have them hidden, if each is there from its
        first id to its last: an answer is not asked for without its question or its image."""
        found: list[_Asked] = []
        count = 0
        for example, start in zip(examples, starts, strict=True):
            answers = self._in_texts(example, start)
            drawn = answers and (rng.random() < self.config.answer_probability or self.answers_alone)
            if drawn and len(answers) > self.vocabulary.num_sentinels:
                limit = f"{len(answers)} answers, but {self.vocabulary.num_sentinels} sentinels"
                raise UserError(f"the answers of an instruction cannot be hidden: {limit}")
            stop, more = start + len(example.ids), count + len(answers)
            if drawn and start >= 0 and stop + 3 * more <= room and more <= self.vocabulary.num_sentinels:
                found.append(_Asked(Span(start, stop), answers))
                count = more
        return found

    def _in_texts(self, example: Example, start: int) -> list[Span]:
        return [
            Span(start + span.start, start + span.stop)
            for span in example.answers
            if not self.vocabulary.is_image(example.ids[span.start])
        ]

    def _scored(
        self, ids: np.ndarray, examples: Sequence[Example], starts: Sequence[int], hidden: list[Span], tail_at: int
    ) -> np.ndarray:
        """Answers that are hidden, images that are answers and whose instruction is there from its beginning, and what
        stands behind each of them: <eoss>, <break>, <eos>, or the tail of an example."""
        of_answers, ends = np.zeros(len(ids), bool), np.isin(ids, (self.vocabulary.break_id, EOS_ID))
        for example, start in zip(examples, starts, strict=True):
            in_texts = self._in_texts(example, start)
            for span in example.answers:
                own = Span(start + span.start, start + span.stop)
                if start >= 0 and (own in hidden or own not in in_texts):
                    of_answers[own.start : own.stop] = True
        no, yes = np.zeros(len(hidden), bool), np.ones(len(hidden), bool)
        scored = moved(of_answers, hidden, no, no, tail_at=tail_at)
        ends = moved(ends, hidden, no, yes, tail_at=tail_at)
        if hidden and tail_at < len(ids):  # an example's tail stands where its image ends
            ends[tail_at - sum(span.stop - span.start - 1 for span in hidden)] = True
        scored[1:] |= scored[:-1] & ends[1:]
        return scored


def choose_spans(
    ids: np.ndarray,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    config: ObjectiveConfig,
    count: int,
    taken: Sequence[Span] = (),
    left_alone: Sequence[Span] = (),
) -> list[Span]:
    """Draws `count` spans to hide in a stretch of sequences [length], beside those that are `taken` and outside those
    that are `left_alone`. -> all but the latter: in order, apart, not empty, each inside one segment.

    A whole text is hidden only where its image stands whole and visible behind it, as in a prompt for a caption: of one
    document not both are hidden whole. Of random spans an earlier draw wins over a later one that overlaps it: the
    later one is drawn again, and left out when no room is found. So there can be fewer spans than `count`, never more.
    """
    chosen = list(taken)
    segments = [each for each in segments_of_block(ids, vocabulary) if _is_apart(each.span, left_alone)]
    if not count or not segments:
        return chosen
    whole = [segment for segment in segments if segment.whole]
    documents = len({segment.document for segment in whole})
    may_be_whole = count <= documents and (count < len(whole) or count == 1)
    if may_be_whole and rng.random() < config.whole_segment_probability:
        chosen += _whole_segments(whole, count, rng, config)
    else:
        torn = [segment.span for segment in segments if segment.is_text and not segment.whole]
        for _ in range(count):
            for _ in range(_ATTEMPTS):
                span = _part_of_a_segment(segments, len(ids), rng)
                if span.start < span.stop and _is_apart(span, chosen) and span not in torn:
                    chosen.append(span)
                    break
    return sorted(chosen, key=lambda span: span.start)


def _is_apart(span: Span, others: Sequence[Span]) -> bool:
    return all(span.stop <= other.start or other.stop <= span.start for other in others)


def _number_of_masks(rng: np.random.Generator, config: ObjectiveConfig) -> int:
    if config.mode == "poisson":
        return int(rng.poisson(config.rate))
    if config.mode == "fixed":
        return int(config.rate)
    return int(rng.random() < config.rate)


def _whole_segments(
    segments: list[Segment], count: int, rng: np.random.Generator, config: ObjectiveConfig
) -> list[Span]:
    """`count` of different documents, each as likely; or of the drawn modality, and of the other where none is left of
    it."""
    left, drawn = list(segments), []
    for _ in range(count):
        choice = left
        if config.whole_text_share is not None:
            is_text = rng.random() < config.whole_text_share
            choice = [segment for segment in left if segment.is_text == is_text] or left
        drawn.append(choice[int(rng.random() * len(choice))])
        left = [segment for segment in left if segment.document != drawn[-1].document]
    return [segment.span for segment in drawn]


def _part_of_a_segment(segments: list[Segment], length: int, rng: np.random.Generator) -> Span:
    """From one uniform index of the stretch to another, both included, clipped to the segment that it overlaps most
    (the first of equals). Empty where it lay on control ids alone."""
    first, second = int(rng.random() * length), int(rng.random() * length)
    start, stop = min(first, second), max(first, second) + 1
    best, best_overlap = Span(0, 0), 0
    for segment in segments:
        overlap = min(stop, segment.span.stop) - max(start, segment.span.start)
        if overlap > best_overlap:
            best, best_overlap = segment.span, overlap
    return Span(max(start, best.start), min(stop, best.stop)) if best_overlap else best
