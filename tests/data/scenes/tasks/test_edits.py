"""Pairs of scenes differ in just what the instruction says."""

import collections
import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_task_examples import CONFIG, made, situations

from cm3leon_jax.data.scenes.examples import ScenesConfig, split_of_scene
from cm3leon_jax.data.scenes.tasks.edit import edit_wordings, make_edit
from cm3leon_jax.data.scenes.tasks.edits import EDITS, Edit, edit_kinds, is_legal, legal_edits
from cm3leon_jax.data.scenes.tasks.example import example_rng
from cm3leon_jax.data.scenes.world import COLOURS, PLACES, SHAPES, SIZES, Scene, WorldConfig, sample_scene
from cm3leon_jax.runtime.errors import UserError

CHANGED = {"recolour": {"colour"}, "resize": {"size"}, "reshape": {"shape"}, "move": {"place", "x", "y"}}
JITTERED = WorldConfig(jitter=0.015)


@given(st.integers(0, 2**32), st.sampled_from(sorted(EDITS)))
@settings(max_examples=150, deadline=None)
def test_an_edit_changes_what_its_kind_says_and_gives_a_scene_of_the_world(seed, kind):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, JITTERED)
    for edit, result in list(legal_edits(rng, scene, kind, JITTERED))[:20]:
        gone = set(scene.objects) - set(result.objects)
        come = set(result.objects) - set(scene.objects)
        assert (len(gone), len(come)) == {"add": (0, 1), "remove": (1, 0)}.get(kind, (1, 1))
        assert result.background == scene.background
        assert len({item.place for item in result.objects}) == len(result.objects)
        assert len({(item.colour, item.shape) for item in result.objects}) == len(result.objects)
        assert 1 <= len(result.objects) <= 4
        if kind in CHANGED:
            before, after = dataclasses.asdict(gone.pop()), dataclasses.asdict(come.pop())
            differing = {name for name in before if before[name] != after[name]}
            assert differing <= CHANGED[kind] and differing & {"colour", "size", "shape", "place"}
        assert Edit.from_dict(edit.to_dict()) == edit
        assert edit.apply(scene) == result


def test_every_legal_edit_is_found():
    scene = Scene.from_dict(made("edit")[0].metadata["source"])
    one = Scene(scene.objects[:1], scene.background)
    found = {kind: list(legal_edits(np.random.default_rng(0), one, kind, CONFIG.world)) for kind in EDITS}
    assert {kind: len(edits) for kind, edits in found.items()} == {
        "recolour": len(COLOURS) - 1,
        "resize": len(SIZES) - 1,
        "reshape": len(SHAPES) - 1,
        "move": len(PLACES) - 1,
        "remove": 0,
        "add": (len(PLACES) - 1) * (len(COLOURS) * len(SHAPES) - 1) * len(SIZES),
    }


def test_scenes_that_the_world_does_not_have_are_no_results():
    single = WorldConfig(count_probabilities=(1.0,))
    assert edit_kinds(single) == ["recolour", "resize", "reshape", "move"]
    scene = sample_scene(np.random.default_rng(0), single)
    assert not list(legal_edits(np.random.default_rng(0), scene, "add", single))
    assert not is_legal(Scene((scene.objects[0],) * 2, "white"), CONFIG.world)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_both_scenes_are_of_the_split_and_all_kinds_are_as_likely(split):
    kinds = collections.Counter()
    for each in made("edit", split):
        source, target = (Scene.from_dict(each.metadata[name]) for name in ("source", "scene"))
        assert split_of_scene(source) == split_of_scene(target) == split
        assert Edit.from_dict(each.metadata["edit"]).apply(source) == target
        kinds[each.metadata["kind"]] += 1
    total = sum(kinds.values())
    assert set(kinds) == set(EDITS)
    assert all(abs(count - total / 6) < 4 * (total * 5 / 36) ** 0.5 for count in kinds.values())


def test_an_instruction_names_the_object_and_the_change():
    for each in made("edit"):
        edit = Edit.from_dict(each.metadata["edit"])
        for text in each.fields["instruction"]:
            assert re.fullmatch(r"[a-z ]+", text)
            item = edit.before or edit.after
            assert f"{item.colour} {item.shape}" in text
            if edit.kind in CHANGED:
                changed = next(iter(CHANGED[edit.kind] & {"colour", "size", "shape", "place"}))
                told = getattr(edit.after, changed)
                assert told in text or (told == "center" and "middle" in text)
        assert len(set(each.fields["instruction"])) >= 3


def test_different_edits_of_a_scene_are_told_differently():
    scene = next(situation.scene for situation in situations() if len(situation.scene.objects) == 3)
    rng = np.random.default_rng(0)
    told = [
        text
        for kind in EDITS
        for edit, _ in list(legal_edits(rng, scene, kind, CONFIG.world))[:60]
        for text in set(edit_wordings(rng, edit))
    ]
    assert len(set(told)) == len(told)


def test_a_world_without_edits_in_a_split_is_a_user_error(monkeypatch):
    monkeypatch.setattr("cm3leon_jax.data.scenes.tasks.edit.split_of_scene", lambda scene: "train")
    monkeypatch.setattr("cm3leon_jax.data.scenes.tasks.edit.MAX_TRIES", 20)
    situation = dataclasses.replace(situations("test")[0], config=ScenesConfig())
    with pytest.raises(UserError, match="too few scenes"):
        make_edit(example_rng("edit", "a", 0), situation)
