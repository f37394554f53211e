"""Scores of captions and paragraphs: what they state, checked against the scene."""

from __future__ import annotations

from collections.abc import Sequence

from cm3leon_jax.data.scenes.caption_parser import parse_caption
from cm3leon_jax.data.scenes.facts import all_facts, score
from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.data.scenes.tasks.pictures import target_scene
from cm3leon_jax.evaluation.scene_tasks.counts import Scores, Tally


def score_captions(examples: Sequence[Metadata], texts: Sequence[str]) -> Scores:
    """ "true": of the facts stated; "all true": of the texts, those that state some facts and no false one."""
    tally = Tally(len(examples))
    for index, (metadata, text) in enumerate(zip(examples, texts, strict=True)):
        hits, total = score(parse_caption(text).facts, target_scene(metadata))
        tally.add("true", index, hits, total)
        tally.add("all true", index, hits == total > 0)
    return tally.scores


def score_paragraphs(examples: Sequence[Metadata], texts: Sequence[str]) -> Scores:
    """As captions, and "covered": of all facts of the scene, those that are stated; "exact": of the texts, those that
    state all of them and nothing false."""
    tally = Tally(len(examples))
    tally.scores |= score_captions(examples, texts)
    for index, (metadata, text) in enumerate(zip(examples, texts, strict=True)):
        scene = target_scene(metadata)
        stated, facts = set(parse_caption(text).facts), set(all_facts(scene))
        tally.add("covered", index, len(facts & stated), len(facts))
        tally.add("exact", index, facts <= stated and all(fact.holds(scene) for fact in stated))
    return tally.scores
