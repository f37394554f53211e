"""Sightings -> captions, in one of several wordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Of each creature, with its place and without, and what joins two of them.
WORDINGS = (
    ("a {name} at the {place}", "a {name}", " and "),
    ("{place}: a {name}", "here: a {name}", ", "),
    ("{name}, {place}", "{name}", "; "),
    ("one {name} in the {place}", "one {name}", " with "),
)


def write_caption(rng: np.random.Generator, seen: Sequence[tuple[str, str]], *, places_named: float = 1.0) -> str:
    """(name, place) of each creature in the order in which they are named -> a caption. It says where they are with the
    chance `places_named`."""
    wording, named = WORDINGS[int(rng.integers(len(WORDINGS)))], rng.random() < places_named
    *clauses, joint = wording
    return joint.join(clauses[not named].format(name=name, place=place) for name, place in seen)
