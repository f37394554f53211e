"""Scenes as pictures, and the two kinds of maps that pictures are drawn from: shapes, and outlines."""

from __future__ import annotations

import dataclasses

import numpy as np

from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.data.scenes.world import BACKGROUNDS, COLOURS, Scene

MAP_BACKGROUND = "white"
INK = "black"
# In a segmentation map a colour stands for a shape, as it stands for a class elsewhere.
SHAPE_COLOURS = {
    "circle": "red",
    "square": "blue",
    "triangle": "green",
    "cross": "magenta",
    "star": "orange",
    "ring": "cyan",
}


def target_scene(metadata: Metadata) -> Scene:
    """The scene that the answer is about, or shows."""
    return Scene.from_dict(metadata["scene"])


def scene_picture(metadata: Metadata, resolution: int) -> list[np.ndarray]:
    """The target scene, uint8 [R, R, 3]."""
    return [render(target_scene(metadata), resolution).image]


def before_and_after(metadata: Metadata, resolution: int) -> list[np.ndarray]:
    """The scene that is edited, and the target scene."""
    return [render(Scene.from_dict(metadata["source"]), resolution).image, *scene_picture(metadata, resolution)]


def segmentation_map(scene: Scene, resolution: int) -> np.ndarray:
    """Every object filled with the colour of its shape, on white: uint8 [R, R, 3]."""
    objects = tuple(dataclasses.replace(item, colour=SHAPE_COLOURS[item.shape]) for item in scene.objects)
    return render(Scene(objects, MAP_BACKGROUND), resolution).image


def edge_map(scene: Scene, resolution: int) -> np.ndarray:
    """The outlines of the objects, black on white: uint8 [R, R, 3]."""
    is_edge = render(scene, resolution).edges[..., None] > 0
    return np.where(is_edge, np.array(COLOURS[INK], np.uint8), np.array(BACKGROUNDS[MAP_BACKGROUND], np.uint8))


def map_and_scene(metadata: Metadata, resolution: int) -> list[np.ndarray]:
    """The segmentation map of the target scene, and the scene."""
    return [segmentation_map(target_scene(metadata), resolution), *scene_picture(metadata, resolution)]


def edges_and_scene(metadata: Metadata, resolution: int) -> list[np.ndarray]:
    """The edge map of the target scene, and the scene."""
    return [edge_map(target_scene(metadata), resolution), *scene_picture(metadata, resolution)]
