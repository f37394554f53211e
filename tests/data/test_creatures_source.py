"""The world of creatures, read as a source and made by its command."""

import numpy as np
import pytest

from cm3leon_jax import cli
from cm3leon_jax.data.creatures.examples import creature_examples
from cm3leon_jax.data.creatures.folder import write_creatures
from cm3leon_jax.data.creatures.judge import judge
from cm3leon_jax.data.creatures.world import CreaturesConfig, Sighting
from cm3leon_jax.data.sources import open_source
from cm3leon_jax.runtime.errors import UserError

CONFIG = CreaturesConfig(creatures=20, bank_only=4, bank_only_share=0.5, parts=8, train=12, validation=4, test=4)


def test_examples_are_the_creatures(tmp_path):
    write_creatures(tmp_path, CONFIG)
    source = open_source(f"creatures:{tmp_path}")
    fingerprints = set()
    for name in source.splits:
        split = source.split(name)
        expected = list(creature_examples(name, CONFIG, source.world))
        assert list(split.captions()) == [example.caption for example in expected] and len(split) == len(expected)
        for index in reversed(range(len(split))):
            example = split[index]
            assert (example.id, example.caption) == (expected[index].id, expected[index].caption)
            sightings = [Sighting(*each) for each in example.metadata["sightings"]]
            assert all(judge(example.image, sightings, source.world))
        fingerprints.add(split.fingerprint)
    assert len(fingerprints) == 3
    pieces = source.shards(8)
    assert sum(piece.size for piece in pieces) == 18 + 6 + 6
    with pytest.raises(UserError, match="no split"):
        source.split("dev")


def test_the_command_makes_a_source(tmp_path, capsys):
    sizes = [f"--gin.CreaturesConfig.{name}={value}" for name, value in CONFIG.to_dict().items()]
    assert cli.main(["creatures", "--directory", str(tmp_path / "made"), *sizes]) == 0
    assert (tmp_path / "made/examples.png").exists()
    split = open_source(f"creatures:{tmp_path}/made/data").split("train")
    assert len(split) == 18 and split[0].image.dtype == np.uint8
    assert cli.main(["creatures", "--directory", str(tmp_path / "made"), *sizes[:-1]]) == 0
    assert "nothing to do" in capsys.readouterr().out
