"""The embedded data set, read as a source."""

import numpy as np
import pytest

from cm3leon_jax.data.scenes.builder import prepare_scenes
from cm3leon_jax.data.scenes.examples import ScenesConfig, scene_examples
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.world import Scene
from cm3leon_jax.data.sources import open_source
from cm3leon_jax.runtime.errors import UserError

CONFIG = ScenesConfig(resolution=32, train=6, validation=2, test=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "data"
    prepare_scenes(path, CONFIG)
    return path


def test_examples_are_the_scenes(folder):
    source = open_source(f"scenes:{folder}")
    assert source.splits == ("train", "validation", "test")
    for name in source.splits:
        split = source.split(name)
        expected = list(scene_examples(name, CONFIG))
        assert len(split) == len(expected)
        assert list(split.captions()) == [example.caption.text for example in expected]
        for index in reversed(range(len(split))):
            example = split[index]
            assert (example.id, example.caption) == (expected[index].id, expected[index].caption.text)
            scene = Scene.from_dict(example.metadata["scene"])
            assert np.array_equal(example.image, render(scene, CONFIG.resolution).image)
            assert len(example.metadata["facts"]) == len(expected[index].caption.facts)
    fingerprints = {source.split(name).fingerprint for name in source.splits}
    assert len(fingerprints) == 3
    assert open_source(f"scenes:{folder}").split("train").fingerprint in fingerprints


def test_a_missing_data_set_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="cm3leon scenes"):
        open_source(f"scenes:{tmp_path}")
