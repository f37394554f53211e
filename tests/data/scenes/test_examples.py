import itertools
import statistics
import subprocess
import sys

import pytest

from cm3leon_jax.data.scenes.caption_parser import parse_caption
from cm3leon_jax.data.scenes.examples import SPLITS, ScenesConfig, scene_examples, split_of_facts, split_of_scene
from cm3leon_jax.data.scenes.world import WorldConfig
from cm3leon_jax.runtime.errors import UserError

CONFIG = ScenesConfig(train=3000, validation=60, test=60)


@pytest.fixture(scope="module")
def splits():
    return {split: list(scene_examples(split, CONFIG)) for split in SPLITS}


def test_no_scene_and_no_description_is_in_two_splits(splits):
    for one, other in itertools.combinations(SPLITS, 2):
        for what in (
            lambda example: example.scene.key(),
            lambda example: frozenset(example.caption.facts),
            lambda example: example.caption.text,
        ):
            assert not {what(example) for example in splits[one]} & {what(example) for example in splits[other]}


def test_the_split_of_an_example_can_be_told_from_what_it_shows_and_what_it_says(splits):
    for split, examples in splits.items():
        for example in examples[:60]:
            assert split_of_scene(example.scene) == split
            assert split_of_facts(parse_caption(example.caption.text).facts) == split


def test_held_out_captions_are_all_different_and_ids_unique(splits):
    for split in ("validation", "test"):
        assert len({example.caption.text for example in splits[split]}) == CONFIG.count(split)
    ids = [example.id for examples in splits.values() for example in examples]
    assert len(set(ids)) == len(ids)


def test_more_examples_continue_the_same_stream(splits):
    fewer = list(scene_examples("train", ScenesConfig(train=20)))
    assert fewer == splits["train"][:20]
    assert list(scene_examples("train", ScenesConfig(train=20, seed=1))) != fewer


def test_held_out_scenes_are_not_simpler_than_those_of_training(splits):
    objects = {split: [len(example.scene.objects) for example in examples] for split, examples in splits.items()}
    assert statistics.mean(objects["test"]) == pytest.approx(statistics.mean(objects["train"]), abs=0.45)


def test_a_world_with_too_few_scenes_is_a_user_error(monkeypatch):
    monkeypatch.setattr("cm3leon_jax.data.scenes.examples.MAX_TRIES", 200)
    config = ScenesConfig(test=100_000, world=WorldConfig(count_probabilities=(1.0,)))
    with pytest.raises(UserError, match="ask for fewer"):
        list(scene_examples("test", config))


@pytest.mark.parametrize("settings", [{"resolution": 8}, {"test": 0}])
def test_settings_that_cannot_be_used_are_user_errors(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        ScenesConfig(**settings)


def test_reading_and_rendering_scenes_needs_no_tensorflow():
    code = (
        "import sys; from cm3leon_jax.data.scenes import caption_parser, examples, reader; "
        "assert not {'tensorflow', 'tensorflow_datasets', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
