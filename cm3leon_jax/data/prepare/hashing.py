"""Which of millions of images to compare: banded hashing of their sketches (LSH, Datar et al. 2004).

In each band an image has a key: its lowest frequencies, quantized in steps much wider than what a near copy changes.
The steps have another offset in each band, so near copies that a step separates in one band meet in another. Images are
sorted by key, and within a key by one more frequency. Each is compared with its neighbours in this order, at most
`3 * WINDOW` of them, however many share a key. So the work is linear in the number of images.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from cm3leon_jax.data.prepare.signatures import COEFFICIENTS, LEAST_CONTRAST

BANDS = 8
WINDOW = 256
_MEANS = (0, 36, 42)  # coefficients of a sketch: the mean of each plane
_SHAPE = tuple(range(1, 10))  # the lowest other frequencies of luminance
_FINER = tuple(range(10, 15))  # those after them, one for each band in turn
# Widths of a step: of the means in levels, and of the frequencies relative to how strong they all are.
_STEPS = np.array([30.0, 12.0, 12.0] + [0.5] * len(_SHAPE), np.float32)
_WEAKEST = 0.7  # of the contrast: where the lowest frequencies are weaker, noise decides on them
# Distance of two sketches relative to their contrast. Of near copies 99.9% are within the first radius. Within the
# second, an image may be one of a crowd of copies: then it is compared with the first of them, too.
_RADIUS, _CROWD = 0.45, 0.3
_NOISE = 3.0  # levels that are added to the contrast
_CHUNK = 2**18


def candidates(sketches: np.ndarray, band: int) -> np.ndarray:
    """Sketches float16 [N, SKETCH], which may be mapped from disk -> pairs int64 [n, 2] to compare, the smaller index
    first; sorted, each once. Images of little contrast are in none."""
    order = _sorted_order(sketches, band)
    found = [
        np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1) for one, other in _near(sketches, order)
    ]
    return np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)


def _sorted_order(sketches: np.ndarray, band: int) -> np.ndarray:
    """Indexes of the images that have some contrast, by key."""
    keys = np.zeros(len(sketches), np.uint64)
    for start in range(0, len(sketches), _CHUNK):
        keys[start : start + _CHUNK] = _keys(np.asarray(sketches[start : start + _CHUNK], np.float32), band)
    order = np.argsort(keys, kind="stable")
    return order[np.searchsorted(keys, 1, sorter=order) :]


def _keys(sketches: np.ndarray, band: int) -> np.ndarray:
    """float32 [n, SKETCH] -> uint64 [n]: 40 bits of the key, and 24 of the finer number; 0 for little contrast."""
    shape, contrast = sketches[:, _SHAPE], sketches[:, -1]
    strength = np.maximum(np.linalg.norm(shape, axis=1), _WEAKEST * contrast) + 1e-6
    values = np.concatenate([sketches[:, _MEANS], shape / strength[:, None]], axis=1)
    steps = np.floor(values / _STEPS + _offsets()[band]).astype(np.int64).astype(np.uint64)
    keys = np.full(len(sketches), band + 1, np.uint64)
    for column in steps.T:  # mixed as in splitmix64
        keys = (keys ^ column) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    finer = sketches[:, _FINER[band % len(_FINER)]] / strength
    finer = np.clip((finer + 1) / 2, 0, 1) * (2**24 - 1)
    keys = (keys & ~np.uint64(2**24 - 1)) | finer.astype(np.uint64) | np.uint64(1)
    return np.where(contrast >= LEAST_CONTRAST, keys, np.uint64(0))


@functools.cache
def _offsets() -> np.ndarray:
    """float32 [BANDS, values]: the offset of each value's steps, in steps; a value has another one in each band."""
    rng = np.random.default_rng(0)
    shares = [(rng.permutation(BANDS) + rng.random()) / BANDS for _ in _STEPS]
    return np.stack(shares, axis=1).astype(np.float32)


def _near(sketches: np.ndarray, order: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of indexes, as two arrays: each image with the nearest of its neighbours in the order, and with the first
    of a crowd."""
    blocks = _blocks(sketches, order)
    before, block = None, next(blocks, None)
    while block is not None:
        after = next(blocks, None)
        others = [each for each in (before, block, after) if each is not None]
        distances = np.concatenate([block.distances(other) for other in others], axis=1)
        index = np.concatenate([other.index for other in others])
        distances[block.index[:, None] == index] = np.inf
        nearest = distances.argmin(axis=1)
        least = distances[np.arange(len(nearest)), nearest]
        rows = np.flatnonzero(least <= _RADIUS**2)
        yield block.index[rows], index[nearest[rows]]
        rows = np.flatnonzero(least <= _CROWD**2)
        yield block.index[rows], np.where(distances[rows] <= _CROWD**2, index, len(sketches)).min(axis=1)
        before, block = block, after


def _blocks(sketches: np.ndarray, order: np.ndarray) -> Iterator[_Block]:
    for start in range(0, len(order), WINDOW):
        yield _Block(sketches, order[start : start + WINDOW])


class _Block:
    """Some images: `.index` [B]."""

    def __init__(self, sketches: np.ndarray, index: np.ndarray):
        self.index = index
        rows = np.sort(index)  # read in the order of the file
        values = np.asarray(sketches[rows], np.float32)[np.searchsorted(rows, index)]
        self._values = values[:, :COEFFICIENTS]
        self._squares = np.square(self._values).sum(axis=1)
        self._scale = np.square(values[:, -1]) + _NOISE**2

    def distances(self, other: _Block) -> np.ndarray:
        """Squares, relative to the contrast of the rows: float32 [B, B of the other]."""
        found = self._values @ other._values.T
        found *= -2
        found += self._squares[:, None]
        found += other._squares
        found /= self._scale[:, None]
        return found
