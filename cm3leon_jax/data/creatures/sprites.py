"""Pixel art: heads and bodies, and creatures that are one of each.

A sprite is 16 pixels a side. Its upper and its lower half are the same from left to right, so each of its four quarters
is one patch of an image tokenizer of 8 pixels a patch, and the quarters of all heads and bodies fit into a codebook of
a few hundred codes, however many creatures there are.
"""

from __future__ import annotations

import itertools

import numpy as np

from cm3leon_jax.data.scenes.world import BACKGROUNDS, COLOURS
from cm3leon_jax.runtime.errors import UserError

SPRITE = 16  # pixels a side
BACKGROUND = BACKGROUNDS["white"]
_DOT = 2  # pixels a side of the smallest thing that is drawn
_DOTS = SPRITE // 2 // _DOT  # of a quarter, a side
_FEWEST_DIFFERENT = 6  # dots of a quarter by which any two parts differ
_TRIES = 1000  # of one part


def make_parts(count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` heads or bodies: uint8 [count, 8, 16, 3], any two of which differ in many dots. `UserError`: too many."""
    palette = np.array([BACKGROUND, *COLOURS.values()], np.uint8)
    quarters: list[np.ndarray] = []  # [dots, dots] of indices into the palette; 0 is the background
    for _ in range(count):
        for _ in range(_TRIES):
            two = 1 + rng.permutation(len(COLOURS))[:2]
            quarter = rng.choice([0, *two.tolist()], p=[0.3, 0.4, 0.3], size=(_DOTS, _DOTS))
            if (quarter > 0).any(axis=1).all() and all(
                (quarter != other).sum() >= _FEWEST_DIFFERENT for other in quarters
            ):
                quarters.append(quarter)
                break
        else:
            raise UserError(f"{count} parts are more than can be told apart; ask for fewer")
    pixels = palette[np.stack(quarters)].repeat(_DOT, axis=1).repeat(_DOT, axis=2)
    return np.concatenate([pixels, pixels[:, :, ::-1]], axis=2)


def make_sprites(count: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """`count` different sprites, uint8 [count, 16, 16, 3], each of one of `parts` heads and one of as many bodies.

    Parts are used equally often, but for a remainder. `UserError` where there are more sprites than combinations.
    """
    if count > parts**2:
        raise UserError(f"{parts} heads and bodies make {parts**2} creatures, not {count}; ask for more parts")
    heads, bodies = make_parts(parts, rng), make_parts(parts, rng)
    # Row k of a Latin square pairs every head with one body; whole rows use all parts equally.
    labels = rng.permutation(parts)
    rows = itertools.islice(((head, (head + row) % parts) for row in range(parts) for head in range(parts)), count)
    pairs = np.array([(head, labels[body]) for head, body in rows])[rng.permutation(count)]
    return np.concatenate([heads[pairs[:, 0]], bodies[pairs[:, 1]]], axis=1)
