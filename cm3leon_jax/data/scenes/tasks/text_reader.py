"""Pictures -> the words that are drawn in them, by comparing each cell of the grid with every letter."""

from __future__ import annotations

import functools

import numpy as np
import PIL.Image
import scipy.ndimage

from cm3leon_jax.data.scenes.tasks.lettering import BACKGROUND, CELL, CELLS, INK, cell_of_letter
from cm3leon_jax.data.scenes.tasks.letters import LETTERS

BLURS = (0.0, 0.5, 0.8, 1.1)  # standard deviations in pixels: true pictures, and those that a tokenizer decoded
NOISE = 0.2  # ink, of 1, that is none
LEAST_INK = 3.0  # pixels of full ink; the letter with the least has 10
LEAST_FIT = 0.5  # share of a cell's energy that its best letter must explain
UNREADABLE = "?"


def read_text(image: np.ndarray) -> str:
    """uint8 [H, W, 3], any resolution -> the words, in reading order, with a space between two. A cell with ink that is
    no letter is "?". Any picture gives a text, an empty one where there is no ink on the grid."""
    size = CELLS * CELL
    if image.shape[:2] != (size, size):
        box = PIL.Image.Resampling.BOX
        image = np.asarray(PIL.Image.fromarray(np.ascontiguousarray(image)).resize((size, size), box))
    white, black = float(np.mean(BACKGROUND)), float(np.mean(INK))
    ink = np.clip((white - image.astype(np.float32).mean(-1)) / (white - black), 0, 1)
    cells = ink.reshape(CELLS, CELL, CELLS, CELL).transpose(0, 2, 1, 3).reshape(CELLS * CELLS, CELL * CELL)
    read = "".join(_letters(cells))
    return " ".join(word for start in range(0, len(read), CELLS) for word in read[start : start + CELLS].split())


def _letters(cells: np.ndarray) -> list[str]:
    """Ink float32 [N, 64] -> a letter, "?" or a space for each."""
    templates, labels = _templates()
    products = cells @ templates.T
    energies = (templates**2).sum(-1)
    # Blur takes contrast away, so a letter may be weaker than its template, or a little stronger.
    strengths = np.clip(products / energies, 0.5, 1.1)
    explained = 2 * strengths * products - strengths**2 * energies
    best = explained.argmax(-1)
    fits = explained.max(-1) / np.maximum((cells**2).sum(-1), 1e-6)
    return [
        " " if cell[cell > NOISE].sum() < LEAST_INK else labels[index] if fit >= LEAST_FIT else UNREADABLE
        for cell, index, fit in zip(cells, best, fits, strict=True)
    ]


@functools.cache
def _templates() -> tuple[np.ndarray, list[str]]:
    """Ink float32 [templates, 64], and the letter of each."""
    drawn, labels = [], []
    for letter in LETTERS:
        for blur in BLURS:
            cell = np.pad(cell_of_letter(letter).astype(np.float32), CELL)
            drawn.append(scipy.ndimage.gaussian_filter(cell, blur)[CELL : 2 * CELL, CELL : 2 * CELL].ravel())
            labels.append(letter)
    return np.stack(drawn), labels
