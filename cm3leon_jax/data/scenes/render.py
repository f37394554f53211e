"""Scenes -> pixels, with the maps that go with them: anti-aliased by signed distances, at any resolution."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from cm3leon_jax.data.scenes.world import BACKGROUNDS, COLOURS, SIZES, Scene

# Proportions of the shapes, in radii (half the nominal diameter). The middle of each shape is its centre of mass.
SQUARE_HALF_SIDE = 0.87
TRIANGLE_INRADIUS = 0.55  # equilateral: its points lie at twice this distance
CROSS_HALF_WIDTH = 0.34
STAR_OUTER, STAR_INNER = 1.06, 0.48
RING_HOLE = 0.52
REACH = 1.1  # no shape extends further than this


@dataclasses.dataclass(frozen=True)
class Rendering:
    """A scene at resolution R. Object i of the scene is i + 1 in the segmentation map and row i of the boxes."""

    image: np.ndarray  # uint8 [R, R, 3]
    segmentation: np.ndarray  # uint8 [R, R]; 0 = background
    edges: np.ndarray  # uint8 [R, R]; 255 on the outlines of the objects, else 0
    boxes: np.ndarray  # int32 [objects, 4]; x0, y0, x1, y1 in pixels, x1 and y1 exclusive


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 1


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - SQUARE_HALF_SIDE


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(y, 0.75**0.5 * np.abs(x) - 0.5 * y) - TRIANGLE_INRADIUS


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 1, np.minimum(x, y) - CROSS_HALF_WIDTH)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Folded into one tenth of the star: a tip on the axis `u`, and the edge from that tip to the next inner corner.
    tenth = math.pi / 5
    angle = np.abs((np.arctan2(x, -y) + tenth) % (2 * tenth) - tenth)
    radius = np.hypot(x, y)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    edge_u, edge_v = STAR_INNER * math.cos(tenth) - STAR_OUTER, STAR_INNER * math.sin(tenth)
    return (edge_v * (u - STAR_OUTER) - edge_u * v) / math.hypot(edge_u, edge_v)


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - (1 + RING_HOLE) / 2) - (1 - RING_HOLE) / 2


_DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "ring": _ring,
}


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Distance of the points (x, y) to a shape's outline, negative inside; the shape's middle is (0, 0), y points down.

    All in one unit, pixels say. Exact near the outline, an under-estimate far from it.
    """
    return _DISTANCES[shape](x / radius, y / radius) * radius


def coverage(distance: np.ndarray) -> np.ndarray:
    """Signed distance in pixels -> how much of each pixel the shape covers, 0…1."""
    return np.clip(0.5 - distance, 0, 1)


def render(scene: Scene, resolution: int) -> Rendering:
    """Draws a scene on `resolution` x `resolution` pixels."""
    canvas = np.empty((resolution, resolution, 3), np.float32)
    canvas[:] = BACKGROUNDS[scene.background]
    segmentation = np.zeros((resolution, resolution), np.uint8)
    edges = np.zeros((resolution, resolution), np.uint8)
    boxes = np.zeros((len(scene.objects), 4), np.int32)
    for index, item in enumerate(scene.objects):
        radius = SIZES[item.size] / 2 * resolution
        reach = REACH * radius + 1
        x0, y0 = (max(int(value * resolution - reach), 0) for value in (item.x, item.y))
        x1, y1 = (min(int(value * resolution + reach) + 1, resolution) for value in (item.x, item.y))
        x = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - item.x * resolution)
        y = np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - item.y * resolution)
        distance = signed_distance(item.shape, x[None, :], y[:, None], radius)
        patch = (slice(y0, y1), slice(x0, x1))
        canvas[patch] += coverage(distance)[..., None] * (np.array(COLOURS[item.colour], np.float32) - canvas[patch])
        inside = distance < 0
        segmentation[patch][inside] = index + 1
        edges[patch][np.abs(distance) <= 0.5] = 255
        columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
        if len(columns):
            boxes[index] = x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1
    return Rendering(np.rint(canvas).astype(np.uint8), segmentation, edges, boxes)
