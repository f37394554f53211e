"""Held-out scenes as the evaluation needs them: picture, caption, the facts that it states, and the true scene."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from cm3leon_jax.data.scenes.caption_parser import parse_caption
from cm3leon_jax.data.scenes.facts import Fact
from cm3leon_jax.data.scenes.world import Scene
from cm3leon_jax.data.sources.example import BadExample, SourceSplit
from cm3leon_jax.data.sources.images import fit_image
from cm3leon_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOutScene:
    id: str
    image: np.ndarray  # uint8 [R, R, 3], the true rendering
    caption: str
    facts: tuple[Fact, ...]  # that the caption states, without repetition
    scene: Scene


def held_out_scenes(split: SourceSplit, count: int, resolution: int) -> list[HeldOutScene]:
    """The first `count` examples of a split of a scenes source, with images at the image tokenizer's resolution.

    Examples that cannot be read are passed over. `UserError` where there are fewer, or where they are not scenes.
    """
    scenes: list[HeldOutScene] = []
    for index in range(len(split)):
        if len(scenes) == count:
            break
        try:
            example = split[index]
        except BadExample:
            continue
        scene = _scene(example.metadata, example.id)
        facts = parse_caption(example.caption).facts
        scenes.append(HeldOutScene(example.id, fit_image(example.image, resolution), example.caption, facts, scene))
    if len(scenes) < count:
        raise UserError(f"the held-out split has {len(scenes)} examples and {count} are to be scored; ask for fewer")
    return scenes


def _scene(metadata: dict[str, Any], id: str) -> Scene:
    description: Any = metadata.get("scene")
    try:
        return Scene.from_dict(description)
    except (KeyError, TypeError):
        raise UserError(
            f"example {id} has no scene description, so nothing can be checked; evaluate on data from `cm3leon scenes`"
        ) from None
