"""Scores of pictures whose objects are to fill given boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.scenes.reader import read_scene
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.data.scenes.tasks.pictures import target_scene
from cm3leon_jax.data.scenes.world import Scene
from cm3leon_jax.evaluation.scene_tasks.counts import Scores, Tally

# An object of the next size in the same place has at most 0.65 of its box in common: sizes differ by a factor of 1.3.
LEAST_IOU = 0.7


def score_grounded(examples: Sequence[Metadata], pictures: Sequence[np.ndarray]) -> Scores:
    """The box of an object that the reader finds is that of the object drawn as it was read, at the resolution of the
    boxes given. Of the objects asked for:

    - "object": the reader finds one of its colour and shape whose box has an IoU of at least 0.7 with the one given
    - "name": there is one of its colour and shape, wherever it is
    - "box": there is one with such a box, whatever it is

    and "picture": all objects asked for are found so, and no others.
    """
    tally = Tally(len(examples))
    for index, (metadata, picture) in enumerate(zip(examples, pictures, strict=True)):
        read = read_scene(picture)
        boxes = [_box(read, number, metadata["resolution"]) for number in range(len(read.objects))]
        wanted = target_scene(metadata).objects
        for item, box in zip(wanted, metadata["boxes"], strict=True):
            names = np.array([(one.colour, one.shape) == (item.colour, item.shape) for one in read.objects], bool)
            fits = np.array([iou(one, box) >= LEAST_IOU for one in boxes], bool)
            for name, hits in (("object", names & fits), ("name", names), ("box", fits)):
                tally.add(name, index, bool(hits.any()))
        found = tally.scores["object"].hits[index]
        tally.add("picture", index, bool(found == len(wanted) == len(read.objects)))
    return tally.scores


def iou(one: Sequence[int], other: Sequence[int]) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / max(sum(areas) - common, 1)


def _box(scene: Scene, number: int, resolution: int) -> list[int]:
    return render(Scene((scene.objects[number],), scene.background), resolution).boxes[0].tolist()
