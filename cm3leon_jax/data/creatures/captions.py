"""Sightings -> captions, in one of several wordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Clause = Callable[[str, str], str]  # name, place -> words
# A clause for each creature, and what joins two of them.
WORDINGS: tuple[tuple[Clause, str], ...] = (
    (lambda name, place: f"a {name} at the {place}", " and "),
    (lambda name, place: f"{place}: a {name}", ", "),
    (lambda name, place: f"{name}, {place}", "; "),
    (lambda name, place: f"one {name} in the {place}", " with "),
)


def write_caption(rng: np.random.Generator, seen: Sequence[tuple[str, str]]) -> str:
    """(name, place) of each creature in the order in which they are named -> a caption."""
    clause, joint = WORDINGS[int(rng.integers(len(WORDINGS)))]
    return joint.join(clause(name, place) for name, place in seen)
