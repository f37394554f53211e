"""Task "text_rendering": one or two random words that can be pronounced, and a picture of them."""

from __future__ import annotations

import numpy as np

from cm3leon_jax.data.scenes.examples import split_of_word
from cm3leon_jax.data.scenes.phrases import pick
from cm3leon_jax.data.scenes.tasks.example import Made, Metadata, Situation
from cm3leon_jax.data.scenes.tasks.lettering import LONGEST, MOST_WORDS, draw_text

SHORTEST = 2
_VOWELS = "aeiou"
_CONSONANTS = "bcdfghjklmnpqrstvwxyz"


def make_text_rendering(rng: np.random.Generator, situation: Situation) -> Made:
    """Every word is in one split, by its hash, so that no held-out word is drawn in training."""
    text = " ".join(_word(rng, situation.split) for _ in range(1 + int(MOST_WORDS * rng.random())))
    return Made({"text": text}, {"text": text})


def text_picture(metadata: Metadata, resolution: int) -> list[np.ndarray]:
    """The words drawn, uint8 [R, R, 3]."""
    return [draw_text(metadata["text"], resolution)]


def _word(rng: np.random.Generator, split: str) -> str:
    while True:
        length = SHORTEST + int((LONGEST - SHORTEST + 1) * rng.random())
        kinds = pick(rng, ((_VOWELS, _CONSONANTS), (_CONSONANTS, _VOWELS), (_CONSONANTS, _VOWELS)))
        word = "".join(pick(rng, kinds[place % 2]) for place in range(length))
        if split_of_word(word) == split:
            return word
