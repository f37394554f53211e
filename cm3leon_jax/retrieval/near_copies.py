"""Copies of a document that are no other document: its image with less margin, scaled and compressed again, its caption
written in another way.

What an encoder makes of them says from which similarity on two documents are the same (`similarity.py`).
"""

from __future__ import annotations

import io
import re

import numpy as np
import PIL.Image

CROPS = (0.03, 0.06)  # share of each side that is cut off, half of it at either end
SCALES = (0.5, 0.75)  # to which an image is brought, and back
QUALITIES = (20, 50)  # of JPEG


def near_copy(image: np.ndarray, caption: str, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Image uint8 [H, W, 3] and caption -> those of a copy, the image of the same size."""
    crop, scale = (choices[int(rng.random() * len(choices))] for choices in (CROPS, SCALES))
    quality = QUALITIES[int(rng.random() * len(QUALITIES))]
    return compressed(scaled(cropped(image, crop), scale), quality), reworded(caption, rng)


def cropped(image: np.ndarray, share: float) -> np.ndarray:
    """Without a margin of half of `share` of each side, at its old size."""
    height, width = image.shape[:2]
    top, left = (round(side * share / 2) for side in (height, width))
    return _resized(image[top : height - top, left : width - left], (height, width))


def scaled(image: np.ndarray, share: float) -> np.ndarray:
    """Brought to `share` of each side, and back."""
    height, width = image.shape[:2]
    small = _resized(image, (max(1, round(height * share)), max(1, round(width * share))))
    return _resized(small, (height, width))


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """As a JPEG of this quality."""
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file))


def reworded(caption: str, rng: np.random.Generator) -> str:
    """The same, by one of three rules: as it is, without case and punctuation, without articles."""
    rule = int(rng.random() * 3)
    if rule == 0:
        return caption
    if rule == 1:
        changed = re.sub(r"[^\w\s]", "", caption).lower()
    else:
        changed = " ".join(word for word in caption.split() if word.lower() not in ("a", "an", "the"))
    return changed.strip() or caption


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(image).resize((size[1], size[0]), PIL.Image.Resampling.BICUBIC))
