"""The best of several ways to sample, by validation pictures."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.claims.best_of import best_of
from benchmarks.claims.drawing import Drawing
from benchmarks.claims.scores import Scores
from benchmarks.claims.settings import Sampling


def choose(drawings: Sequence[Drawing], scores: Sequence[Scores]) -> Sampling:
    """That of the highest share of right creatures in the picture of each caption that CLIP chooses; the first of
    equals."""
    shares = []
    for drawing, each in zip(drawings, scores, strict=True):
        if drawing.split == "test":
            raise ValueError("settings are not chosen on test pictures")
        chosen = best_of(each.right["known"].astype(float), each.clip, drawing.samples)
        shares.append(chosen.sum() / (len(chosen) * each.asked["known"].sum()))
    return drawings[shares.index(max(shares))].sampling
