"""Pixels -> scene: what gives exact scores for generated images.

The reader works at 64x64 whatever the resolution of the image. It takes the median colour for the background, groups
what stands out from it by the cells of the grid, and explains each group as one object: the colour whose mixture with
the background fits best, then shape, size and sub-pixel position together by comparison with rendered templates.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import PIL.Image
import scipy.ndimage

from cm3leon_jax.data.scenes.render import coverage, signed_distance
from cm3leon_jax.data.scenes.world import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Scene, SceneObject, place_at

RESOLUTION = 64
FOREGROUND = 60.0  # difference from the background, of 255, in the channel that differs most
SPECK = 12.0  # pixels; the least that is taken for an object (the smallest one covers 25)
WIDEST = 22  # pixels; a connected group that is wider holds several objects
HALF_WINDOW = 12  # pixels; the window of 25x25 pixels holds the largest object with its fringe
PHASES = (-0.5, -0.25, 0.0, 0.25, 0.5)  # sub-pixel positions of the templates, pixels
BLURS = (0.0, 0.8)  # standard deviations in pixels: true renderings, and images that a tokenizer decoded
LEAST_FIT = 0.6  # share of a group's energy that its best template must explain


@dataclasses.dataclass(frozen=True)
class ReadObject:
    """An object with the evidence for it."""

    item: SceneObject
    fit: float  # share of the group's energy that the template explains, at most 1


def read_scene(image: np.ndarray) -> Scene:
    """uint8 [H, W, 3], any resolution -> the scene that it shows. Objects are in the reading order of their cells.

    Any image gives a scene, an empty one if nothing in the image looks like an object.
    """
    background, objects = read_objects(image)
    return Scene(tuple(found.item for found in objects if found.fit >= LEAST_FIT), background)


def read_objects(image: np.ndarray) -> tuple[str, list[ReadObject]]:
    """The nearest background's name, and every group of pixels that stands out from it, explained as an object."""
    pixels = _at_reading_resolution(image)
    background = np.median(pixels.reshape(-1, 3), axis=0)
    name = min(BACKGROUNDS, key=lambda key: float(np.abs(background - BACKGROUNDS[key]).sum()))
    difference = pixels - background
    groups, cells = _groups(np.abs(difference).max(-1))
    return name, [_explain(difference, background, groups, cell) for cell in cells]


def _at_reading_resolution(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [64, 64, 3], averaging over the pixels that fall together."""
    if image.shape[:2] == (RESOLUTION, RESOLUTION):
        return image.astype(np.float32)
    filtered = PIL.Image.Resampling.BOX if min(image.shape[:2]) >= RESOLUTION else PIL.Image.Resampling.BICUBIC
    resized = PIL.Image.fromarray(np.ascontiguousarray(image)).resize((RESOLUTION, RESOLUTION), filtered)
    return np.asarray(resized, np.float32)


def _groups(contrast: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Contrast [64, 64] -> the group of each pixel (cell of the grid + 1; 0 = background), and the groups that count.

    A connected region belongs to the cell of its middle, so that fragments in one cell are one object; a region that is
    too wide for one object is cut along the grid.
    """
    regions, count = scipy.ndimage.label(contrast > FOREGROUND)
    groups = np.zeros(regions.shape, np.int32)
    for index, box in enumerate(scipy.ndimage.find_objects(regions, count)):
        inside = regions[box] == index + 1
        if max(inside.shape) > WIDEST:
            groups[box][inside] = _CELL_OF_PIXEL[box][inside]
            continue
        y, x = (positions.mean() + side.start for positions, side in zip(np.nonzero(inside), box, strict=True))
        groups[box][inside] = _CELL_OF_PIXEL[int(y), int(x)]
    areas = np.bincount(groups.ravel(), minlength=10)
    return groups, [cell for cell in range(1, 10) if areas[cell] >= SPECK]


_MIDDLES = (np.arange(RESOLUTION) + 0.5) / RESOLUTION
_CELL_OF_PIXEL = np.array([[PLACES.index(place_at(x, y)) + 1 for x in _MIDDLES] for y in _MIDDLES])


def _explain(difference: np.ndarray, background: np.ndarray, groups: np.ndarray, cell: int) -> ReadObject:
    """The object that fits a group of pixels best. `difference`: the image less the background, float32 [64, 64, 3]."""
    colour, opacity = _colour_and_opacity(difference, background, groups == cell)
    opacity = np.where((groups == 0) | (groups == cell), opacity, 0)
    rows, columns = np.nonzero(groups == cell)
    weights = opacity[rows, columns] + 1e-6
    # Positions are those of pixel centres; the object's middle lies within half a pixel of (base_x, base_y).
    base_x, base_y = (int(np.rint(np.average(positions, weights=weights))) for positions in (columns, rows))
    window = np.pad(opacity, HALF_WINDOW)[base_y : base_y + 2 * HALF_WINDOW + 1, base_x : base_x + 2 * HALF_WINDOW + 1]
    templates, energies, labels = _templates()
    # |window - template|² less the part that no template changes
    errors = energies - 2 * (templates @ window.ravel().astype(np.float32))
    best = int(np.argmin(errors))
    fit = -float(errors[best]) / max(float((window * window).sum()), 1e-6)
    shape, size, dx, dy = labels[best]
    x, y = (base_x + 0.5 + dx) / RESOLUTION, (base_y + 0.5 + dy) / RESOLUTION
    return ReadObject(SceneObject(shape, colour, size, place_at(x, y), round(x, 4), round(y, 4)), fit)


def _colour_and_opacity(difference: np.ndarray, background: np.ndarray, inside: np.ndarray) -> tuple[str, np.ndarray]:
    """The group's colour, and how far each pixel [64, 64] is from the background towards it, 0…1."""
    members = difference[inside]
    contrast = np.abs(members).max(-1)
    core = np.median(members[contrast >= np.quantile(contrast, 0.5)], axis=0)
    directions = np.array(list(COLOURS.values()), np.float32) - background.astype(np.float32)
    squared = (directions**2).sum(-1)
    # Blur mixes small objects with the background, so a weakened colour is still that colour.
    strengths = np.clip(directions @ core / squared, 0.5, 1.1)
    nearest = int(np.argmin(((core - strengths[:, None] * directions) ** 2).sum(-1)))
    opacity = np.clip(difference @ directions[nearest] / squared[nearest], 0, 1)
    return tuple(COLOURS)[nearest], opacity


@functools.cache
def _templates() -> tuple[np.ndarray, np.ndarray, list[tuple[str, str, float, float]]]:
    """Opacities float32 [templates, 625], their energies [templates], and what each is: shape, size, x and y offset."""
    positions = np.arange(-HALF_WINDOW, HALF_WINDOW + 1, dtype=np.float32)
    windows, labels = [], []
    for shape, size, dx, dy in _variants():
        radius = SIZES[size] / 2 * RESOLUTION
        drawn = coverage(signed_distance(shape, positions[None, :] - dx, positions[:, None] - dy, radius))
        for blur in BLURS:
            windows.append(scipy.ndimage.gaussian_filter(drawn, blur).ravel())
            labels.append((shape, size, dx, dy))
    templates = np.stack(windows).astype(np.float32)
    return templates, (templates**2).sum(-1), labels


def _variants() -> Iterator[tuple[str, str, float, float]]:
    return ((shape, size, dx, dy) for shape in SHAPES for size in SIZES for dx in PHASES for dy in PHASES)
