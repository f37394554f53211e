"""The world of creatures: names, sprites, pictures, and who is found in them."""

import itertools

import numpy as np
import pytest

from cm3leon_jax.data.creatures.captions import WORDINGS
from cm3leon_jax.data.creatures.examples import creature_examples
from cm3leon_jax.data.creatures.folder import read_creatures, write_creatures
from cm3leon_jax.data.creatures.judge import NOBODY, judge, who_stands_at
from cm3leon_jax.data.creatures.names import make_names
from cm3leon_jax.data.creatures.sprites import BACKGROUND, make_sprites
from cm3leon_jax.data.creatures.world import CreaturesConfig, Sighting, World, place_box
from cm3leon_jax.data.scenes.world import PLACES
from cm3leon_jax.data.splits import SPLITS
from cm3leon_jax.runtime.errors import UserError

CONFIG = CreaturesConfig(creatures=30, bank_only=6, parts=12, pairs=0.4, train=150, validation=20, test=20)
BESIDE = CreaturesConfig(**{**CONFIG.to_dict(), "bank_only_share": 0.2})
WORLD = World.of(CONFIG)


def syllables(name):
    return [name[place : place + 2] for place in (0, 2, 4)]


def test_two_syllables_tell_names_apart():
    names = make_names(300, np.random.default_rng(0))
    assert all(len(name) == 6 and name.isalpha() and name.islower() for name in names)
    for one, other in itertools.combinations(names, 2):
        assert sum(a == b for a, b in zip(syllables(one), syllables(other), strict=True)) < 2
    with pytest.raises(UserError, match="fewer creatures"):
        make_names(6000, np.random.default_rng(0))


def test_sprites_are_symmetric_different_and_made_of_few_patches():
    sprites = make_sprites(36, 12, np.random.default_rng(0))
    assert sprites.shape == (36, 16, 16, 3)
    np.testing.assert_array_equal(sprites, sprites[:, :, ::-1])
    quarters = sprites.reshape(36, 2, 8, 2, 8, 3).swapaxes(2, 3)
    assert len(np.unique(sprites, axis=0)) == 36
    for row in (0, 1):
        patches, uses = np.unique(quarters[:, row, 0].reshape(36, -1), axis=0, return_counts=True)
        assert len(patches) == 12 and (uses == 3).all()  # every head, and every body, as often
    assert ((sprites != BACKGROUND).any(-1).reshape(36, -1).mean(1) > 0.3).all()
    with pytest.raises(UserError, match="more parts"):
        make_sprites(5, 2, np.random.default_rng(0))


def test_places_are_whole_patches_apart_from_one_another():
    covered = np.zeros((64, 64), int)
    for place in PLACES:
        rows, columns = place_box(place)
        assert all(edge % 8 == 0 for edge in (rows.start, rows.stop, columns.start, columns.stop))
        covered[rows, columns] += 1
    assert covered.max() == 1 and covered.sum() == 9 * 16 * 16


@pytest.mark.parametrize("split", SPLITS)
def test_pictures_beside_the_others_show_the_bank_only_creatures(split):
    known = list(creature_examples(split, CONFIG, WORLD))
    both = list(creature_examples(split, BESIDE, WORLD))
    assert both[: len(known)] == known and len(both) == round(1.2 * len(known))
    assert all(sighting.creature < WORLD.known for example in known for sighting in example.sightings)
    for example in both[len(known) :]:
        assert any(sighting.creature >= WORLD.known for sighting in example.sightings)


def test_no_picture_is_in_two_splits_or_twice_in_one():
    keys = [frozenset(example.sightings) for split in SPLITS for example in creature_examples(split, BESIDE, WORLD)]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {1, 2}
    with pytest.raises(UserError, match="more pictures"):
        list(creature_examples("test", CreaturesConfig(creatures=2, bank_only=0, pairs=0.0), World.of(CONFIG)))


def test_the_share_of_pairs_is_kept_where_single_creatures_run_short():
    short = CreaturesConfig(creatures=30, bank_only=0, parts=12, pairs=0.1, train=190, validation=1, test=1)
    sizes = [len(example.sightings) for example in creature_examples("train", short, World.of(short))]
    assert 0.04 < sizes.count(2) / len(sizes) < 0.16  # about 171 of the 189 pictures of one creature


def test_captions_name_who_and_where_in_every_wording():
    examples = list(creature_examples("train", CONFIG, WORLD))
    for example in examples:
        words = example.caption
        at = [words.index(WORLD.names[sighting.creature]) for sighting in example.sightings]
        assert at == sorted(at) and all(sighting.place in words for sighting in example.sightings)
    starts = {example.caption.split()[0] for example in examples}
    assert {"a", "one", "top:", "left:"} <= starts and len(WORDINGS) == 4


def test_the_judge_knows_everyone_through_noise_and_nobody_in_an_empty_place():
    rng = np.random.default_rng(0)
    for creature in range(len(WORLD.names)):
        sightings = [Sighting(creature, PLACES[creature % 9])]
        noisy = WORLD.render(sightings).astype(int) + rng.integers(-25, 26, (64, 64, 3))
        picture = np.clip(noisy, 0, 255).astype(np.uint8)
        assert judge(picture, sightings, WORLD) == [True]
        assert judge(picture, [Sighting((creature + 1) % len(WORLD.names), sightings[0].place)], WORLD) == [False]
        assert who_stands_at(picture, PLACES[(creature + 1) % 9], WORLD) == NOBODY


def test_a_folder_gives_the_config_back(tmp_path):
    write_creatures(tmp_path / "made", BESIDE)
    assert read_creatures(tmp_path / "made") == BESIDE
    with pytest.raises(UserError, match="cm3leon creatures"):
        read_creatures(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"pairs": 1.5}, {"train": 0}, {"bank_only": 0, "bank_only_share": 0.1}, {"creatures": 1}]
)
def test_what_no_world_can_be(wrong):
    with pytest.raises(UserError):
        CreaturesConfig(**wrong)
