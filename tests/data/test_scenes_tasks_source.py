"""The embedded data set, read as instructions."""

import json

import numpy as np
import pytest

from cm3leon_jax.data.scenes.builder import prepare_scenes, scenes_config
from cm3leon_jax.data.scenes.examples import ScenesConfig
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.tasks.makers import MAKERS
from cm3leon_jax.data.scenes.world import Scene, WorldConfig
from cm3leon_jax.data.sources import open_source
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.instructions.tasks import first_wording, texts_to_learn
from cm3leon_jax.runtime.errors import UserError

CONFIG = ScenesConfig(train=12, validation=3, test=3, seed=5, world=WorldConfig(count_probabilities=(0.5, 0.5)))
TWO_PICTURES = ("edit", "segmentation", "canny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "data"
    prepare_scenes(path, CONFIG)
    return path


def test_the_config_is_read_back(folder):
    assert scenes_config(folder) == CONFIG


@pytest.mark.parametrize("task", MAKERS)
def test_examples_are_instructions_with_what_scores_need(folder, task):
    source = open_source(f"scenes:{folder}?task={task}")
    suffix = ".interleaved" if task in TWO_PICTURES else ""
    seen = []
    for name, count in (("train", 12), ("validation", 3), ("test", 3)):
        split = source.split(name + suffix)
        assert len(split) == count
        assert not suffix or not len(source.split(name))
        examples = [split[index] for index in reversed(range(count))][::-1]
        for example in examples:
            said = example.metadata[KEY]
            assert said["task"] == example.metadata["task"] == task
            assert [text for text, _ in example.pairs] == [one.text for one in first_wording(said).documents]
            assert all(image.shape == (64, 64, 3) for _, image in example.pairs)
            if task != "text_rendering":
                scene = Scene.from_dict(example.metadata["scene"])
                assert np.array_equal(example.pairs[-1][1], render(scene, 64).image)
            json.dumps(example.metadata)
        learned = [texts_to_learn(example.metadata[KEY], index) for index, example in enumerate(examples)]
        assert list(split.captions()) == [text for texts in learned for text in texts]
        again = open_source(f"scenes:{folder}?task={task}").split(name + suffix)
        assert again.fingerprint == split.fingerprint
        for one, other in zip(examples, (again[index] for index in range(count)), strict=True):
            assert (one.id, one.caption, one.metadata) == (other.id, other.caption, other.metadata)
        seen += [example.id for example in examples]
        with pytest.raises(IndexError):
            split[count]
    assert len(set(seen)) == 18


def test_fewer_training_examples_and_all_held_out_ones(folder):
    few = open_source(f"scenes:{folder}?task=vqa&examples=4")
    every = open_source(f"scenes:{folder}?task=vqa")
    assert [len(few.split(name)) for name in few.splits] == [4, 3, 3]
    assert few.split("train")[3].metadata == every.split("train")[3].metadata
    assert few.split("train").fingerprint != every.split("train").fingerprint
    assert few.split("test").fingerprint == every.split("test").fingerprint
    assert len({open_source(f"scenes:{folder}?task={task}").split("test").fingerprint for task in MAKERS}) == len(
        MAKERS
    )
    assert sum(len(list(shard.examples())) for shard in few.shards(3)) == 10


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("task=juggling", "no task 'juggling'"),
        ("task=vqa&examples=0", "from 1 up"),
        ("task=vqa&examples=many", "from 1 up"),
        ("examples=3", "without task="),
        ("tsk=vqa", "tsk="),
    ],
)
def test_what_cannot_be_asked_for_is_a_user_error(folder, query, message):
    with pytest.raises(UserError, match=message):
        open_source(f"scenes:{folder}?{query}")
