import json
import pathlib

import numpy as np
import pytest

from cm3leon_jax.data.scenes import builder as scenes_builder
from cm3leon_jax.data.scenes.builder import MANIFEST, open_scenes, prepare_scenes
from cm3leon_jax.data.scenes.caption_parser import parse_caption
from cm3leon_jax.data.scenes.examples import SPLITS, ScenesConfig, scene_examples
from cm3leon_jax.data.scenes.facts import fact_from_dict
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.world import Scene
from cm3leon_jax.runtime.errors import UserError

CONFIG = ScenesConfig(resolution=32, train=12, validation=3, test=4)


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("data") / "scenes"
    prepare_scenes(path, CONFIG)
    return path


def contents(directory: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_every_split_has_random_access_to_what_was_generated(directory):
    opened = open_scenes(directory)
    for split in SPLITS:
        source = opened.as_data_source(split)
        expected = list(scene_examples(split, CONFIG))
        assert len(source) == len(expected) == CONFIG.count(split)
        for index in reversed(range(len(source))):
            record, example = source[index], expected[index]
            assert record["id"].decode() == example.id
            assert record["caption"].decode() == example.caption.text
            assert Scene.from_dict(json.loads(record["scene"])) == example.scene
            facts = tuple(fact_from_dict(value) for value in json.loads(record["facts"]))
            assert facts == example.caption.facts == parse_caption(record["caption"].decode()).facts
            drawn = render(example.scene, CONFIG.resolution)
            np.testing.assert_array_equal(record["image"], drawn.image)
            np.testing.assert_array_equal(record["segmentation"][..., 0], drawn.segmentation)
            np.testing.assert_array_equal(record["edges"][..., 0], drawn.edges)
            np.testing.assert_array_equal(record["boxes"], drawn.boxes)


def test_what_is_there_is_not_made_again_and_another_config_replaces_it(tmp_path):
    path = tmp_path / "scenes"
    prepare_scenes(path, ScenesConfig(resolution=16, train=2, validation=1, test=1))
    first = (path / MANIFEST).stat().st_mtime_ns
    prepare_scenes(path, ScenesConfig(resolution=16, train=2, validation=1, test=1))
    assert (path / MANIFEST).stat().st_mtime_ns == first
    prepare_scenes(path, ScenesConfig(resolution=16, train=3, validation=1, test=1))
    assert len(open_scenes(path).as_data_source("train")) == 3
    assert sorted(item.name for item in tmp_path.iterdir()) == ["scenes"]


def test_the_same_config_gives_the_same_examples(directory, tmp_path):
    prepare_scenes(tmp_path / "again", CONFIG)
    one, other = (open_scenes(path).as_data_source("train") for path in (directory, tmp_path / "again"))
    for left, right in zip(one, other, strict=True):
        assert left["caption"] == right["caption"]
        np.testing.assert_array_equal(left["image"], right["image"])


def test_an_interrupted_preparation_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes_builder, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_scenes(tmp_path / "scenes", CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="not a scenes data set"):
        prepare_scenes(tmp_path, CONFIG)
    assert contents(tmp_path) == {"letter.txt": b"dear"}


def test_opening_what_is_not_there_or_damaged_is_a_user_error(directory, tmp_path):
    with pytest.raises(UserError, match="no scenes data set"):
        open_scenes(tmp_path)
    (tmp_path / MANIFEST).write_text((directory / MANIFEST).read_text())
    with pytest.raises(UserError, match="damaged"):
        open_scenes(tmp_path)


def test_the_published_configs_are_the_demo_and_the_paper():
    names = {config.name: config.scenes for config in scenes_builder.Scenes.BUILDER_CONFIGS}
    assert names == {"demo_64": ScenesConfig(), "paper_256": ScenesConfig(resolution=256)}
    assert (ScenesConfig().train, ScenesConfig().validation, ScenesConfig().test) == (16_000, 500, 500)
