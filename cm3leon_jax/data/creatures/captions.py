"""Sightings -> captions, in one of several wordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# A clause for each creature, and what joins two of them.
WORDINGS = (
    ("a {name} at the {place}", " and "),
    ("{place}: a {name}", ", "),
    ("{name}, {place}", "; "),
    ("one {name} in the {place}", " with "),
)


def write_caption(rng: np.random.Generator, seen: Sequence[tuple[str, str]]) -> str:
    """(name, place) of each creature in the order in which they are named -> a caption."""
    clause, joint = WORDINGS[int(rng.integers(len(WORDINGS)))]
    return joint.join(clause.format(name=name, place=place) for name, place in seen)
