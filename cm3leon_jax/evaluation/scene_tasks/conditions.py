"""Scores of pictures that are drawn from a map, which tells shapes, sizes and places, and a caption with colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.scenes.reader import read_scene
from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.data.scenes.tasks.pictures import target_scene
from cm3leon_jax.evaluation.scene_tasks.counts import Scores, Tally


def score_conditioned(examples: Sequence[Metadata], pictures: Sequence[np.ndarray]) -> Scores:
    """Of the objects of the map: "place" (the reader finds something there), "shape", "size" and "colour" (of what is
    there), "object" (all of that); and "picture": it shows the target scene, no more and no less."""
    tally = Tally(len(examples))
    for index, (metadata, picture) in enumerate(zip(examples, pictures, strict=True)):
        target, read = target_scene(metadata), read_scene(picture)
        there = {item.place: item for item in read.objects}
        for item in target.objects:
            found = there.get(item.place)
            right = {name: getattr(found, name, None) == getattr(item, name) for name in ("shape", "size", "colour")}
            tally.add("object", index, all(right.values()))
            tally.add("place", index, found is not None)
            for name, hit in right.items():
                tally.add(name, index, hit)
        tally.add("picture", index, read.key() == target.key())
    return tally.scores
