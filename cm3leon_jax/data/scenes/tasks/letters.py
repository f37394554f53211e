"""A font of 26 capital letters, 5 pixels wide and 7 high, drawn for this project: strokes of one pixel."""

from __future__ import annotations

import string

import numpy as np

WIDTH, HEIGHT = 5, 7

# Thirteen letters a block, each row of a block one row of pixels.
_BLOCKS = (
    """
    .###. ####. .#### ###.. ##### ##### .#### #...# .###. ....# #...# #.... #...#
    #...# #...# #.... #..#. #.... #.... #.... #...# ..#.. ....# #..#. #.... ##.##
    #...# #...# #.... #...# #.... #.... #.... #...# ..#.. ....# #.#.. #.... #.#.#
    ##### ####. #.... #...# ####. ####. #..## ##### ..#.. ....# ##... #.... #.#.#
    #...# #...# #.... #...# #.... #.... #...# #...# ..#.. ....# #.#.. #.... #...#
    #...# #...# #.... #..#. #.... #.... #...# #...# ..#.. #...# #..#. #.... #...#
    #...# ####. .#### ###.. ##### #.... .###. #...# .###. .###. #...# ##### #...#
    """,
    """
    #...# .###. ####. .###. ####. .#### ##### #...# #...# #...# #...# #...# #####
    ##..# #...# #...# #...# #...# #.... ..#.. #...# #...# #...# #...# #...# ....#
    ##..# #...# #...# #...# #...# #.... ..#.. #...# #...# #...# .#.#. .#.#. ...#.
    #.#.# #...# ####. #...# ####. .###. ..#.. #...# .#.#. #.#.# ..#.. ..#.. ..#..
    #..## #...# #.... #.#.# #.#.. ....# ..#.. #...# .#.#. #.#.# .#.#. ..#.. .#...
    #..## #...# #.... #..#. #..#. ....# ..#.. #...# .#.#. ##.## #...# ..#.. #....
    #...# .###. #.... .##.# #...# ####. ..#.. .###. ..#.. #...# #...# ..#.. #####
    """,
)


def _bitmaps() -> dict[str, np.ndarray]:
    rows = [line.split() for block in _BLOCKS for line in block.strip().splitlines()]
    drawn = [
        np.array([[pixel == "#" for pixel in row[letter]] for row in rows[first : first + HEIGHT]])
        for first in (0, HEIGHT)
        for letter in range(13)
    ]
    return dict(zip(string.ascii_lowercase, drawn, strict=True))


LETTERS: dict[str, np.ndarray] = _bitmaps()  # bool [7, 5] of each letter a…z
