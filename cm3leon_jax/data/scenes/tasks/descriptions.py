"""Tasks "caption", what the data set says of a scene, and "paragraph", all that there is to say of it."""

from __future__ import annotations

import numpy as np

from cm3leon_jax.data.scenes.phrases import Mention, counted, noun, pick, things, where
from cm3leon_jax.data.scenes.tasks.example import Made, Situation
from cm3leon_jax.data.scenes.world import PLACES, Scene


def make_caption(rng: np.random.Generator, situation: Situation) -> Made:
    """The caption of the data set."""
    del rng
    return Made({"caption": situation.caption}, {"scene": situation.scene.to_dict()})


def make_paragraph(rng: np.random.Generator, situation: Situation) -> Made:
    """See `write_paragraph`."""
    return Made({"caption": write_paragraph(rng, situation.scene)}, {"scene": situation.scene.to_dict()})


def write_paragraph(rng: np.random.Generator, scene: Scene) -> str:
    """Count, and colour, shape, size and place of every object, in reading order. `caption_parser.parse_caption` reads
    exactly `facts.all_facts` of it. A scene without objects is "a plain background"."""
    if not scene.objects:
        return "a plain background"
    items = sorted(scene.objects, key=lambda item: PLACES.index(item.place))
    mentions = [Mention(item, item.size, item.place) for item in items]
    opening = pick(rng, ("this picture shows ", "here is a picture of ", "there is a drawing of "))
    opening += counted(len(mentions), pick(rng, ("object", "shape")))
    style = int(3 * rng.random())
    if style == 0:
        return f"{opening}: {things(rng, mentions)} on a plain background."
    if style == 1:
        said = [f"{noun(mention)} is {where(rng, mention.item.place)}." for mention in mentions]
    else:
        said = [f"the {mention.name} {where(rng, mention.item.place)} is {mention.size}." for mention in mentions]
    return f"{opening}. {' '.join(said)}"
