"""Keys that tell examples apart, and the test whether two images are near copies: the same image scaled, compressed
again, or without a little of its margin.

Each image leaves a thumbnail of its luminance and its two colour channels. Two thumbnails are aligned, then compared.
What to compare is found by sketches (`hashing.py`): the lowest frequencies of the thumbnails.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable

import numpy as np
import PIL.Image

_SIDES = (32, 16, 16)  # cells of luminance, blue and red difference
_BOUNDS = np.cumsum([side * side for side in _SIDES])
THUMBNAIL = int(_BOUNDS[-1])  # bytes
# Frequencies (down, across) of each plane that a sketch has.
_FREQUENCIES = [[(down, order - down) for order in range(orders) for down in range(order + 1)] for orders in (8, 3, 3)]
COEFFICIENTS = sum(len(each) for each in _FREQUENCIES)
SKETCH = COEFFICIENTS + 1  # values: the last is the contrast

# Levels of 256. An image of less contrast is like any other of its colour: it is never a near copy.
LEAST_CONTRAST = 10.0
# What alignment may do: shift and scale by this share of half the side, and sharpen.
_MOST_SHIFT, _MOST_SHARPER = 0.03, 0.25
# Tolerance of a cell: levels, plus a share of the range of its neighbourhood. The mean of 3 x 3 cells may differ by
# that, a single cell by twice as much.
_LEVELS, _SHARE, _SINGLE = 4.0, 0.2, 2.0


def thumbnail(image: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, 3] -> uint8 [THUMBNAIL]: the means of the cells of its three planes."""
    small = PIL.Image.fromarray(image).resize(_SIDES[:1] * 2, PIL.Image.Resampling.BOX)
    planes = zip(small.convert("YCbCr").split(), _SIDES, strict=True)
    cells = [plane.resize((side, side), PIL.Image.Resampling.BOX) for plane, side in planes]
    return np.concatenate([np.asarray(plane).ravel() for plane in cells])


def document_digest(pairs: Iterable[tuple[str, np.ndarray]]) -> int:
    """64 bits of texts and images, uint8 [H, W, 3]: equal for exact duplicates."""
    hashed = hashlib.blake2b(digest_size=8)
    for text, image in pairs:
        hashed.update(f"{len(text)} {text} {image.shape}".encode())
        hashed.update(np.ascontiguousarray(image).data)
    return int.from_bytes(hashed.digest(), "little")


def caption_key(caption: str) -> int:
    """64 bits of a caption's words: equal for captions that differ in case, spaces and punctuation alone."""
    return hash64(" ".join(re.findall(r"\w+", caption.casefold())) or caption)


def hash64(text: str) -> int:
    """64 bits: equal for equal texts."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def pixel_digest(image: np.ndarray) -> int:
    """64 bits: equal for equal images."""
    return document_digest([("", image)])


def sketches(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails uint8 [n, THUMBNAIL] -> float16 [n, SKETCH]: coefficients of a cosine transform, in levels, and the
    contrast, which is the standard deviation of a thumbnail over all its planes."""
    coefficients = thumbnails.astype(np.float32) @ _transform()
    contrast = _contrast([_blurred(plane) for plane in _planes(thumbnails)])
    return np.concatenate([coefficients, contrast[:, None]], axis=1).astype(np.float16)


def are_near_copies(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Thumbnails uint8 [n, THUMBNAIL] twice -> bool [n].

    After alignment (least squares, Lucas and Kanade 1981) the difference is within the tolerance everywhere. Noise of
    compression averages out over 3 x 3 cells; at strong edges some of a shift remains, so the tolerance grows there.
    """
    pairs = [(_blurred(a), _blurred(b)) for a, b in zip(_planes(one), _planes(other), strict=True)]
    means = [(a + b) / 2 for a, b in pairs]
    left = _after_alignment([b - a for a, b in pairs], means)
    alike = np.ones(len(one), bool)
    for difference, mean in zip(left, means, strict=True):
        relative = difference / (_LEVELS + _SHARE * _inner(_spread(mean)))
        alike &= (np.abs(_mean_of_nine(relative)) <= 1).all(axis=(1, 2))
        alike &= (np.abs(relative) <= _SINGLE).all(axis=(1, 2))
    return alike


def _contrast(blurred: list[np.ndarray]) -> np.ndarray:
    """Of three planes [n, S, S]: the standard deviation over all of them, [n]."""
    return np.sqrt(sum(_inner(plane).var(axis=(1, 2)) for plane in blurred))


def _after_alignment(differences: list[np.ndarray], means: list[np.ndarray]) -> list[np.ndarray]:
    """Differences of planes [n, S, S] -> those of the inner cells, less what shift, scale and sharpness explain."""
    directions = [np.stack([_inner(each) for each in _derivatives(mean)], axis=1) for mean in means]  # [n, 5, S-2, S-2]
    inner = [_inner(difference) for difference in differences]
    weights = [_SIDES[0] / side for side in _SIDES]  # a cell of colour covers four of luminance
    x = np.concatenate([w * each.reshape(*each.shape[:2], -1) for w, each in zip(weights, directions, strict=True)], 2)
    y = np.concatenate([w * each.reshape(len(each), -1) for w, each in zip(weights, inner, strict=True)], axis=1)
    products = x @ x.transpose(0, 2, 1) + 100 * np.eye(x.shape[1], dtype=np.float32)
    found = np.linalg.solve(products, x @ y[:, :, None])
    most = np.array([_MOST_SHIFT] * 4 + [_MOST_SHARPER], np.float32)[:, None]
    found = np.clip(found, -most, most)[:, :, :, None]
    return [each - (found * of_plane).sum(axis=1) for each, of_plane in zip(inner, directions, strict=True)]


def _derivatives(plane: np.ndarray) -> list[np.ndarray]:
    """Derivatives of planes [n, S, S]: by shift across and down, by scale across and down (all in units of half the
    side), and by sharpness."""
    side = plane.shape[1]
    padded = np.pad(plane, ((0, 0), (1, 1), (1, 1)), mode="edge")
    left, right, above, below = padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]
    across, down = (right - left) * (side / 4), (below - above) * (side / 4)
    centre = ((np.arange(side, dtype=np.float32) + 0.5) / side) * 2 - 1
    return [across, down, across * centre, down * centre[:, None], left + right + above + below - 4 * plane]


def _planes(thumbnails: np.ndarray) -> list[np.ndarray]:
    """Thumbnails uint8 [n, THUMBNAIL] -> three float32 [n, S, S]."""
    planes = np.split(thumbnails, _BOUNDS[:-1], axis=1)
    return [plane.reshape(-1, side, side).astype(np.float32) for plane, side in zip(planes, _SIDES, strict=True)]


def _inner(plane: np.ndarray) -> np.ndarray:
    return plane[:, 1:-1, 1:-1]


def _blurred(plane: np.ndarray) -> np.ndarray:
    """By a quarter, a half, a quarter, along both axes."""
    padded = np.pad(plane, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 16


def _spread(plane: np.ndarray) -> np.ndarray:
    """The largest less the smallest of each cell and its eight neighbours."""
    padded = np.pad(plane, ((0, 0), (1, 1), (1, 1)), mode="edge")
    extremes = []
    for of in (np.maximum, np.minimum):
        rows = of(of(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
        extremes.append(of(of(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:]))
    return extremes[0] - extremes[1]


def _mean_of_nine(plane: np.ndarray) -> np.ndarray:
    rows = plane[:, :-2] + plane[:, 1:-1] + plane[:, 2:]
    return (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9


@functools.cache
def _transform() -> np.ndarray:
    """float32 [THUMBNAIL, COEFFICIENTS]. The squares of a plane's coefficients, its mean left out, add up to its
    variance."""
    matrix = np.zeros((THUMBNAIL, COEFFICIENTS), np.float32)
    column = 0
    for side, end, frequencies in zip(_SIDES, _BOUNDS, _FREQUENCIES, strict=True):
        cells = (np.arange(side) + 0.5) / side
        waves = [np.ones(side), *(np.sqrt(2) * np.cos(np.pi * k * cells) for k in range(1, 8))]
        for down, across in frequencies:
            matrix[end - side * side : end, column] = np.outer(waves[down], waves[across]).ravel() / side**2
            column += 1
    return matrix
