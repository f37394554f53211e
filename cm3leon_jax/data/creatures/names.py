"""Names that can be pronounced, and told from one another by any two of their three syllables."""

from __future__ import annotations

import numpy as np

from cm3leon_jax.runtime.errors import UserError

CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"
SYLLABLES = tuple(consonant + vowel for consonant in CONSONANTS for vowel in VOWELS)
_TRIES = 1000  # of one name


def make_names(count: int, rng: np.random.Generator) -> list[str]:
    """`count` names of three syllables, of which no two share two at the same places. `UserError`: too many."""
    names: list[str] = []
    taken: set[tuple[int, int, int]] = set()  # (place of the missing syllable, the two others)
    for _ in range(count):
        for _ in range(_TRIES):
            drawn = rng.integers(len(SYLLABLES), size=3).tolist()
            pairs = [(without, *(drawn[:without] + drawn[without + 1 :])) for without in range(3)]
            if taken.isdisjoint(pairs):
                taken.update(pairs)
                names.append("".join(SYLLABLES[index] for index in drawn))
                break
        else:
            raise UserError(f"{count} names are more than can be told apart; ask for fewer creatures")
    return names
