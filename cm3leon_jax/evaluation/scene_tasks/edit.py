"""Scores of edited pictures, by what the scene reader finds in them."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.scenes.facts import all_facts, named, score
from cm3leon_jax.data.scenes.reader import read_scene
from cm3leon_jax.data.scenes.tasks.edits import Edit
from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.data.scenes.tasks.pictures import target_scene
from cm3leon_jax.data.scenes.world import Scene, SceneObject
from cm3leon_jax.evaluation.scene_tasks.counts import Scores, Tally

_ATTRIBUTES = {"recolour": "colour", "resize": "size", "reshape": "shape"}


def score_edits(examples: Sequence[Metadata], pictures: Sequence[np.ndarray]) -> Scores:
    """Metadata of edits, and the pictures drawn, uint8 [N, H, W, 3] ->

    - "changed": the object that the instruction is about is as it says
    - "kept": whatever the instruction leaves alone is as it was, background included, and nothing has come
    - "both", and the same for each kind of edit under its name: what is read is the target scene
    - "facts": of all facts of the target scene, those that are true
    """
    tally = Tally(len(examples))
    for index, (metadata, picture) in enumerate(zip(examples, pictures, strict=True)):
        read = read_scene(picture)
        edit, source = Edit.from_dict(metadata["edit"]), Scene.from_dict(metadata["source"])
        changed, kept = is_changed(edit, read), is_kept(edit, source, read)
        for name, hit in (("both", changed and kept), ("changed", changed), ("kept", kept)):
            tally.add(name, index, hit)
        tally.add("facts", index, *score(all_facts(target_scene(metadata)), read))
        tally.add(edit.kind, index, changed and kept)
    return tally.scores


def is_changed(edit: Edit, read: Scene) -> bool:
    """Whether the edit has been done, whatever else has."""
    before, after = edit.before, edit.after
    if after is None:
        assert before is not None
        return not _at(read, before.place)
    there = _at(read, after.place)
    if edit.kind in _ATTRIBUTES:
        return any(getattr(item, _ATTRIBUTES[edit.kind]) == getattr(after, _ATTRIBUTES[edit.kind]) for item in there)
    if before is None:
        return any(_key(item) == _key(after) for item in there)
    return any(item in there for item in named(read, after.colour, after.shape)) and not _at(read, before.place)


def is_kept(edit: Edit, source: Scene, read: Scene) -> bool:
    """Whether all but what the edit is about is as in the source. Of the source itself it is true."""
    return read.background == source.background and _untouched(edit, read) == _untouched(edit, source)


def _untouched(edit: Edit, scene: Scene) -> collections.Counter:
    """The objects of a scene without what the edit may change."""
    places = {item.place for item in (edit.before, edit.after) if item}
    found: collections.Counter = collections.Counter()
    for item in scene.objects:
        key = _key(item)
        if item.place in places:
            if edit.kind in ("add", "remove"):
                continue
            key[_ATTRIBUTES.get(edit.kind, "place")] = ""
        found[tuple(key.values())] += 1
    return found


def _at(scene: Scene, place: str) -> list[SceneObject]:
    return [item for item in scene.objects if item.place == place]


def _key(item: SceneObject) -> dict[str, str]:
    return {name: getattr(item, name) for name in ("place", "colour", "shape", "size")}
