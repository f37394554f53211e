"""Edges and scribbles found in a picture, white on black. They need scikit-image (the extra `conditions`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import scipy.ndimage

from cm3leon_jax.runtime.errors import UserError

_SIDE = 256  # the shortest side of what edges are looked for in: lines of a larger picture would fade when it is scaled
_SHORTEST = 32  # pixels of a piece of line that is kept in a scribble
_WIDTH = 1.5  # standard deviation, in pixels, of the blur that makes lines thick


def canny(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [h, w, 3] of the same shape but for rounding, the shortest side at most 256: Canny's
    edges (1986), thin, with scikit-image's thresholds 0.1 and 0.2 of the gradient, which are OpenCV's 100 and 200."""
    return _white_on_black(_edges(image, sigma=1.0))


def scribble(image: np.ndarray) -> np.ndarray:
    """The same for lines as a child draws them: edges of the picture blurred over 3 pixels, thinned out to their
    strongest pixels and without pieces of fewer than 32, then made about 7 pixels wide by a blur and a low threshold,
    as ControlNet does with the edges of a network (Zhang et al. 2023, "fake scribbles")."""
    edges = _edges(image, sigma=3.0)
    pieces, count = scipy.ndimage.label(edges, np.ones((3, 3)))
    long = scipy.ndimage.sum_labels(edges, pieces, np.arange(count + 1)) >= _SHORTEST
    blurred = scipy.ndimage.gaussian_filter(255.0 * long[pieces], _WIDTH)
    return _white_on_black(blurred > 4)


def canny_of_scikit_image() -> Any:
    """Its function. `UserError` where the package is missing."""
    try:
        from skimage.feature import canny as found
    except ImportError:
        raise UserError(
            "edges are found by scikit-image, which is not installed: `pip install scikit-image` "
            "(the extra `conditions` of cm3leon_jax)"
        ) from None
    return found


def _edges(image: np.ndarray, sigma: float) -> np.ndarray:
    """bool [h, w]. Across an edge only the pixel where the gradient is greatest."""
    picture = PIL.Image.fromarray(image).convert("L")
    scale = min(1.0, _SIDE / min(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    grey = np.asarray(picture.resize(size, PIL.Image.Resampling.BICUBIC), np.float32) / 255
    # Blurring makes the gradient of an edge smaller in proportion.
    return canny_of_scikit_image()(grey, sigma=sigma, low_threshold=0.1 / sigma, high_threshold=0.2 / sigma)


def _white_on_black(lines: np.ndarray) -> np.ndarray:
    return np.repeat(np.where(lines, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)


COMPUTED = {"canny": canny, "scribble": scribble}
