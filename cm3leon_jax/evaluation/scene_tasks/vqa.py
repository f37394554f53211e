"""Scores of answers to questions."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.evaluation.scene_tasks.counts import Scores, Tally


def score_answers(examples: Sequence[Metadata], texts: Sequence[str]) -> Scores:
    """ "answer": the words are those of the true answer; the same for each kind of question under its name."""
    tally = Tally(len(examples))
    for index, (metadata, text) in enumerate(zip(examples, texts, strict=True)):
        right = plain(text) == plain(metadata["answer"])
        tally.add("answer", index, right)
        tally.add(metadata["kind"], index, right)
    return tally.scores


def plain(text: str) -> str:
    """In lower case, without punctuation and articles."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def most_frequent(training: Sequence[Metadata], examples: Sequence[Metadata]) -> list[str]:
    """For each example the answer that training has most often for its kind of question; "" where it has none."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for metadata in training:
        counts[metadata["kind"]][metadata["answer"]] += 1
    best = {kind: max(sorted(found), key=found.__getitem__) for kind, found in counts.items()}
    return [best.get(metadata["kind"], "") for metadata in examples]
