"""The CM3 objective: which spans of a sequence are hidden behind sentinels and moved to its end (CM3Leon §2.3).

What is hidden is drawn here, with numpy alone; how it is written down is `documents.mask`. The loss is then plain
next-token prediction, with the same weight on every token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.documents import Span, mask, segment_spans
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary

MODES = ("poisson", "fixed", "fim")

# A draw that is empty or runs into an earlier span is drawn again, so often; then that span is left out. The first
# span of a sequence with any content practically always succeeds, so the share of causal sequences is as configured.
_ATTEMPTS = 16


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """How many spans of a sequence are hidden, and which. The defaults are CM3Leon's, but for whole segments."""

    # "poisson": Poisson(rate) spans, so that exp(-rate) of the sequences (37%) stay causal. "fixed": `rate` spans, an
    # integer. "fim" (fill in the middle): one span in a share `rate` <= 1 of the sequences, none in the others.
    mode: str = "poisson"
    rate: float = 1.0
    max_spans: int = 511  # spans a sequence; never more than the vocabulary has sentinels
    # Chance that a mask takes a whole text or image segment instead of a random span. Not published, and 0 in the
    # authors' code; but two uniform draws hide a whole caption of ~9 tokens in at most 0.1% of masks, and guidance,
    # CD-K and captioning all rely on a model that knows an image behind `<sentinel:0> <break>`.
    whole_segment_probability: float = 0.3
    whole_text_share: float = 0.5  # of whole-segment masks, those that take a text rather than an image
    # Chance that all answers in an instruction's texts are hidden, each as a span of its own, before any mask is drawn:
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
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"the objective's {name} is a probability, not {getattr(self, name)}")
        if self.mode == "fim" and self.rate > 1:
            raise UserError(f"objective mode 'fim' hides one span in a share `rate` <= 1 of sequences, not {self.rate}")


def cm3(ids: np.ndarray, vocabulary: Vocabulary, rng: np.random.Generator, config: ObjectiveConfig) -> np.ndarray:
    """An assembled sequence [length] -> the same with its drawn spans moved to the tail, int32 [length + 3 * spans]."""
    return mask(ids, choose_spans(ids, vocabulary, rng, config), vocabulary)


def choose_spans(
    ids: np.ndarray,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    config: ObjectiveConfig,
    answers: Sequence[Span] = (),
) -> list[Span]:
    """Draws the spans to hide in an assembled sequence [length]: in order, apart, not empty, each inside one segment.
    `answers` are those in an instruction's texts, in order; they come before the masks and are not counted as such.

    An earlier draw wins over a later one that overlaps it: the later one is drawn again, and left out when no room is
    found. So a sequence can get fewer spans than its number of masks, never more.
    """
    most = min(config.max_spans, vocabulary.num_sentinels)
    chosen = list(answers[:most]) if answers and rng.random() < config.answer_probability else []
    count = min(_number_of_spans(rng, config), most - len(chosen))
    if not count:
        return chosen
    segments = segment_spans(ids, vocabulary)
    texts = [span for span in segments[0::2] if span.stop > span.start]
    images = [span for span in segments[1::2] if span.stop > span.start]
    if not texts and not images:
        return chosen
    for _ in range(count):
        for _ in range(_ATTEMPTS):
            if rng.random() < config.whole_segment_probability:
                span = _whole_segment(texts, images, rng, config)
            else:
                span = _part_of_a_segment(segments, len(ids), rng)
            if span.start < span.stop and all(span.stop <= other.start or other.stop <= span.start for other in chosen):
                chosen.append(span)
                break
    return sorted(chosen, key=lambda span: span.start)


def _number_of_spans(rng: np.random.Generator, config: ObjectiveConfig) -> int:
    if config.mode == "poisson":
        return int(rng.poisson(config.rate))
    if config.mode == "fixed":
        return int(config.rate)
    return int(rng.random() < config.rate)


def _whole_segment(texts: list[Span], images: list[Span], rng: np.random.Generator, config: ObjectiveConfig) -> Span:
    """One segment of the drawn modality, each as likely; of the other modality where a sequence lacks the drawn one."""
    wanted = rng.random() < config.whole_text_share
    candidates = (texts or images) if wanted else (images or texts)
    return candidates[int(rng.random() * len(candidates))]


def _part_of_a_segment(segments: list[Span], length: int, rng: np.random.Generator) -> Span:
    """From one uniform position of the sequence to another, both included, clipped to the segment that it overlaps
    most (the first of equals). Empty where it lay on control ids alone."""
    first, second = int(rng.random() * length), int(rng.random() * length)
    start, stop = min(first, second), max(first, second) + 1
    best, best_overlap = Span(0, 0), 0
    for segment in segments:
        overlap = min(stop, segment.stop) - max(start, segment.start)
        if overlap > best_overlap:
            best, best_overlap = segment, overlap
    return Span(max(start, best.start), min(stop, best.stop)) if best_overlap else best
