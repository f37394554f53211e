"""Task "edit": a picture, what is to be changed in it, and the picture with just that changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cm3leon_jax.data.scenes.examples import MAX_TRIES, split_of_scene
from cm3leon_jax.data.scenes.phrases import Mention, article, noun, pick, where
from cm3leon_jax.data.scenes.tasks.edits import Edit, edit_kinds, legal_edits
from cm3leon_jax.data.scenes.tasks.example import Made, Situation, in_random_order
from cm3leon_jax.data.scenes.world import Scene, SceneObject, sample_scene
from cm3leon_jax.runtime.errors import UserError


def make_edit(rng: np.random.Generator, situation: Situation) -> Made:
    """Every kind of edit is as likely. Both scenes are of the example's split; `UserError` where there are no two."""
    kind = pick(rng, edit_kinds(situation.config.world))
    for scene in _scenes(rng, situation):
        for edit, result in legal_edits(rng, scene, kind, situation.config.world):
            if split_of_scene(result) == situation.split:
                metadata = {"scene": result.to_dict(), "source": scene.to_dict(), "edit": edit.to_dict(), "kind": kind}
                return Made({"instruction": in_random_order(rng, edit_wordings(rng, edit))}, metadata)
    raise UserError(f"no edit leads from one {situation.split} scene to another: the world has too few scenes")


def _scenes(rng: np.random.Generator, situation: Situation) -> Iterator[Scene]:
    """The example's own scene; where none of its edits of the kind stays in the split, others of the split."""
    yield situation.scene
    for _ in range(MAX_TRIES):
        scene = sample_scene(rng, situation.config.world)
        if split_of_scene(scene) == situation.split:
            yield scene


def edit_wordings(rng: np.random.Generator, edit: Edit) -> list[str]:
    """Instructions that say this edit and no other."""
    return _WORDINGS[edit.kind](rng, edit.before or _only(edit), edit.after or _only(edit))


def _only(edit: Edit) -> SceneObject:
    item = edit.after or edit.before
    assert item is not None
    return item


def _name(item: SceneObject) -> str:
    return f"the {item.colour} {item.shape}"


def _to(place: str) -> str:
    return f"to the {place} corner" if " " in place else f"to the {place}"


def _recolour(rng: np.random.Generator, old: SceneObject, new: SceneObject) -> list[str]:
    del rng
    name = _name(old)
    return [
        f"make {name} {new.colour}",
        f"paint {name} {new.colour}",
        f"change the colour of {name} to {new.colour}",
        f"{name} should be {new.colour}",
    ]


def _resize(rng: np.random.Generator, old: SceneObject, new: SceneObject) -> list[str]:
    del rng
    name = _name(old)
    return [
        f"make {name} {new.size}",
        f"change the size of {name} to {new.size}",
        f"{name} should be {new.size}",
    ]


def _reshape(rng: np.random.Generator, old: SceneObject, new: SceneObject) -> list[str]:
    del rng
    name = _name(old)
    return [
        f"turn {name} into a {new.shape}",
        f"change the shape of {name} to a {new.shape}",
        f"make {name} a {new.shape}",
        f"replace {name} with {article(f'{new.colour} {new.shape}')}",
    ]


def _move(rng: np.random.Generator, old: SceneObject, new: SceneObject) -> list[str]:
    name = _name(old)
    return [f"move {name} {_to(new.place)}", f"put {name} {where(rng, new.place)}", f"bring {name} {_to(new.place)}"]


def _remove(rng: np.random.Generator, old: SceneObject, new: SceneObject) -> list[str]:
    del rng, new
    name = _name(old)
    return [f"remove {name}", f"delete {name}", f"take {name} away", f"there should be no {old.colour} {old.shape}"]


def _add(rng: np.random.Generator, old: SceneObject, new: SceneObject) -> list[str]:
    del old
    what = f"{noun(Mention(new, new.size, new.place))} {where(rng, new.place)}"
    return [f"add {what}", f"draw {what}", f"put {what}", f"there should be {what}"]


_WORDINGS: dict[str, Callable[[np.random.Generator, SceneObject, SceneObject], list[str]]] = {
    "recolour": _recolour,
    "resize": _resize,
    "reshape": _reshape,
    "move": _move,
    "remove": _remove,
    "add": _add,
}
