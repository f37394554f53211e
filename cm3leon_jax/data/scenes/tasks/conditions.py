"""Tasks "segmentation" and "canny": a map that tells shapes, sizes and places, and a caption that tells the colours."""

from __future__ import annotations

import collections

import numpy as np

from cm3leon_jax.data.scenes.phrases import Mention, things
from cm3leon_jax.data.scenes.tasks.example import Made, Situation, in_random_order
from cm3leon_jax.data.scenes.world import Scene


def make_condition(rng: np.random.Generator, situation: Situation) -> Made:
    """The same for both kinds of maps, which differ in their pictures."""
    scene = situation.scene
    return Made({"caption": colour_caption(rng, scene)}, {"scene": scene.to_dict()})


def colour_caption(rng: np.random.Generator, scene: Scene) -> str:
    """Colours and shapes; places too of shapes that are there twice, because a map does not tell which is which."""
    shapes = collections.Counter(item.shape for item in scene.objects)
    mentions = [Mention(item, None, item.place if shapes[item.shape] > 1 else None) for item in scene.objects]
    return things(rng, in_random_order(rng, mentions))
