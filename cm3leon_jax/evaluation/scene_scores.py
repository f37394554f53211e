"""Exact scores on the scenes world: which of the facts that a caption states are true of a picture.

The scene reader stands between a picture and the verdict, so every score comes with two more of the same kind: the
reader on the true renderings, and on those renderings after the image tokenizer. The latter is the ceiling: what a
model could reach at best that draws through this tokenizer and is judged by this reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from cm3leon_jax.data.scenes.facts import KINDS, Count, Exists, Fact, HasPlace, HasSize, Related, check, kind_of
from cm3leon_jax.data.scenes.reader import read_scene
from cm3leon_jax.data.scenes.world import Scene
from cm3leon_jax.evaluation.intervals import share

Facts = Sequence[Fact]


def check_images(facts_of_each: Sequence[Facts], images: Iterable[np.ndarray]) -> list[list[bool]]:
    """Whether the scene reader finds each fact in the image (uint8 [H, W, 3]) of the same index."""
    return check_scenes(facts_of_each, [read_scene(image) for image in images])


def check_scenes(facts_of_each: Sequence[Facts], scenes: Sequence[Scene]) -> list[list[bool]]:
    """Whether each fact is true of the scene of the same index."""
    return [[check(fact, scene) for fact in facts] for facts, scene in zip(facts_of_each, scenes, strict=True)]


def fact_shares(facts_of_each: Sequence[Facts], verdicts: Sequence[Sequence[bool]], *, seed: int = 0) -> dict:
    """Facts of N examples with their verdicts -> {"overall": share, "by_kind": {kind: share}}.

    Each share is the dict of an `intervals.Share`. Facts count once each, so long captions weigh more; kinds that no
    caption states are left out.
    """
    hits = {kind: np.zeros(len(facts_of_each), np.int64) for kind in KINDS}
    totals = {kind: np.zeros(len(facts_of_each), np.int64) for kind in KINDS}
    for index, (facts, truths) in enumerate(zip(facts_of_each, verdicts, strict=True)):
        for fact, true in zip(facts, truths, strict=True):
            hits[kind_of(fact)][index] += true
            totals[kind_of(fact)][index] += 1
    by_kind = {kind: share(hits[kind], totals[kind], seed=seed).to_dict() for kind in KINDS if totals[kind].any()}
    overall = share(np.sum(list(hits.values()), axis=0), np.sum(list(totals.values()), axis=0), seed=seed).to_dict()
    return {"overall": overall, "by_kind": by_kind}


def judged(facts: Facts, verdicts: Sequence[bool]) -> list[dict]:
    """Facts with their verdicts as a report shows them: [{text, kind, true}]."""
    return [
        {"text": fact_text(fact), "kind": kind_of(fact), "true": bool(true)}
        for fact, true in zip(facts, verdicts, strict=True)
    ]


def fact_text(fact: Fact) -> str:
    """A fact in a few words, for people."""
    match fact:
        case Exists():
            return f"{fact.colour} {fact.shape}"
        case HasSize():
            return f"{fact.colour} {fact.shape}: {fact.size}"
        case HasPlace():
            return f"{fact.colour} {fact.shape}: {fact.place}"
        case Related():
            return f"{fact.colour} {fact.shape} {fact.relation} {fact.other_colour} {fact.other_shape}"
        case Count():
            return f"{fact.count} {'object' if fact.count == 1 else 'objects'}"
