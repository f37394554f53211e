"""What tells that two examples are the same, or nearly: digests of image and caption."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import numpy as np
import PIL.Image

_GRID = 16  # of the difference hash: 16 x 16 bits
_LEVELS = 2  # of 256, by which a neighbour must be brighter: flat areas give zeros, whatever the noise of a codec


NO_HASH = np.zeros(_GRID * _GRID // 8, np.uint8)  # of nothing to compare: no image, or one without any structure


def digest(pairs: Iterable[tuple[str, np.ndarray]]) -> int:
    """64 bits of texts and images, uint8 [H, W, 3]: equal for exact duplicates."""
    hashed = hashlib.blake2b(digest_size=8)
    for text, image in pairs:
        hashed.update(f"{len(text)} {text} {image.shape}".encode())
        hashed.update(np.ascontiguousarray(image).data)
    return int.from_bytes(hashed.digest(), "little")


def caption_key(caption: str) -> int:
    """64 bits of a caption's words: equal for captions that differ in case, spaces and punctuation alone."""
    words = " ".join(re.findall(r"\w+", caption.casefold())) or caption
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little")


def difference_hash(image: np.ndarray) -> np.ndarray:
    """An image, uint8 [H, W, 3] -> uint8 [32]: 256 bits, of which few change when it is scaled or compressed again.

    Each says whether one cell of a grid is darker than the next one in its row (Krawetz 2013, "Kind of like that").
    """
    grey = PIL.Image.fromarray(image).convert("L").resize((_GRID + 1, _GRID), PIL.Image.Resampling.BOX)
    cells = np.asarray(grey).astype(np.int16)
    return np.packbits(cells[:, 1:] - cells[:, :-1] > _LEVELS)


def differing_bits(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """A hash uint8 [32] and n others [n, 32] -> in how many bits each differs, int [n]."""
    return np.bitwise_count(one ^ others).sum(axis=1)
