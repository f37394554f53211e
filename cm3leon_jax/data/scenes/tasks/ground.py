"""Task "ground": a short caption, and the box in pixels that each object is to fill."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.scenes.phrases import Mention, things
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.tasks.example import Made, Situation, in_random_order


def make_ground(rng: np.random.Generator, situation: Situation) -> Made:
    """Boxes are those of `render` at the data set's resolution, in the order of the scene's objects: x0, y0, x1, y1,
    x1 and y1 exclusive. The caption names colours and shapes alone."""
    scene, resolution = situation.scene, situation.config.resolution
    boxes = render(scene, resolution).boxes.tolist()
    mentions = [Mention(item, None, None) for item in scene.objects]
    order = in_random_order(rng, range(len(mentions)))
    caption = things(rng, [mentions[place] for place in order])
    objects = ", ".join(f"{mentions[place].name} at {box_text(boxes[place])}" for place in order)
    metadata = {"scene": scene.to_dict(), "boxes": boxes, "resolution": resolution}
    return Made({"caption": caption, "objects": objects}, metadata)


def box_text(box: Sequence[int]) -> str:
    """As the paper writes a box: two corners in pixels, "(199, 130) -> (204, 150)"."""
    x0, y0, x1, y1 = box
    return f"({x0}, {y0}) -> ({x1}, {y1})"
