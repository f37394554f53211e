"""Words as pictures: every letter fills one cell of an 8x8 grid, which at 64 pixels is that of the image tokens."""

from __future__ import annotations

import numpy as np

from cm3leon_jax.data.scenes.tasks.letters import HEIGHT, LETTERS, WIDTH
from cm3leon_jax.data.scenes.world import BACKGROUNDS, COLOURS
from cm3leon_jax.runtime.errors import UserError

CELLS = 8  # of the grid, across and down
CELL = 8  # pixels of a cell's side at the resolution that letters are made for
LEFT, TOP = 1, 3  # cell of the first letter; words stand one below the other
LONGEST, MOST_WORDS = 6, 2  # letters, words
BACKGROUND, INK = BACKGROUNDS["white"], COLOURS["black"]


def cell_of_letter(letter: str) -> np.ndarray:
    """Where the ink is: bool [8, 8]; the letter is framed by a pixel on the left and on top."""
    cell = np.zeros((CELL, CELL), bool)
    cell[1 : 1 + HEIGHT, 1 : 1 + WIDTH] = LETTERS[letter]
    return cell


def draw_text(text: str, resolution: int) -> np.ndarray:
    """One or two words of at most six letters a…z, a row each -> black on white, uint8 [R, R, 3]. `UserError` where
    letters would have fewer pixels than they are drawn with."""
    if resolution < CELLS * CELL:
        raise UserError(f"letters cannot be drawn on {resolution} pixels: give at least {CELLS * CELL}")
    ink = np.zeros((CELLS * CELL, CELLS * CELL), bool)
    for row, word in enumerate(text.split(), TOP):
        for column, letter in enumerate(word, LEFT):
            ink[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = cell_of_letter(letter)
    # The pixel of the small picture that the middle of a pixel falls into.
    nearest = (np.arange(resolution) * 2 + 1) * CELLS * CELL // (2 * resolution)
    return np.where(ink[nearest][:, nearest, None], np.array(INK, np.uint8), np.array(BACKGROUND, np.uint8))
