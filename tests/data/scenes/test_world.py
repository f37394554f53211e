import json

import numpy as np
import pytest

from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    WorldConfig,
    place_at,
    place_center,
    sample_scene,
)
from cm3leon_jax.runtime.errors import UserError


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [sample_scene(rng, WorldConfig()) for _ in range(2000)]


def one_object(shape="circle", colour="red", size="large", place="center", background="white") -> Scene:
    return Scene((SceneObject(shape, colour, size, place, *place_center(place)),), background)


def test_the_same_seed_gives_the_same_scenes(scenes):
    rng = np.random.default_rng(0)
    assert [sample_scene(rng, WorldConfig()) for _ in range(50)] == scenes[:50]
    assert len(set(scenes)) == len(scenes)


def test_a_scene_survives_json(scenes):
    for scene in scenes[:200]:
        assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene


def test_objects_are_distinct_and_in_their_places(scenes):
    for scene in scenes:
        assert len({item.place for item in scene.objects}) == len(scene.objects)
        assert len({(item.colour, item.shape) for item in scene.objects}) == len(scene.objects)
        for item in scene.objects:
            x, y = place_center(item.place)
            assert place_at(item.x, item.y) == item.place
            assert max(abs(item.x - x), abs(item.y - y)) <= WorldConfig().jitter + 1e-4
            assert PLACES[item.row * 3 + item.column] == item.place


def test_every_choice_is_made_and_counts_follow_the_probabilities(scenes):
    items = [item for scene in scenes for item in scene.objects]
    assert {item.shape for item in items} == set(SHAPES)
    assert {item.colour for item in items} == set(COLOURS)
    assert {item.size for item in items} == set(SIZES)
    assert {item.place for item in items} == set(PLACES)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    shares = np.bincount([len(scene.objects) for scene in scenes], minlength=5)[1:] / len(scenes)
    np.testing.assert_allclose(shares, WorldConfig().count_probabilities, atol=0.04)


def test_the_key_ignores_jitter_background_and_order():
    one, other = one_object().objects[0], one_object("star", "blue", place="left").objects[0]
    moved = SceneObject(one.shape, one.colour, one.size, one.place, one.x + 0.01, one.y)
    assert Scene((one, other), "white").key() == Scene((other, moved), "cream").key()
    assert Scene((one,), "white").key() != one_object(size="small").key()


@pytest.mark.parametrize(
    "settings",
    [
        {"count_probabilities": (0.5, 0.4)},
        {"count_probabilities": (1.5, -0.5)},
        {"count_probabilities": (0.2,) * 5},
        {"jitter": 0.2},
        {"jitter": -0.01},
        {"backgrounds": ("night",)},
        {"backgrounds": ()},
    ],
)
def test_settings_that_cannot_be_used_are_user_errors(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        WorldConfig(**settings)


@pytest.mark.parametrize("resolution", [32, 64, 100, 256])
def test_maps_and_boxes_agree_with_the_image(scenes, resolution):
    for scene in scenes[:40]:
        drawn = render(scene, resolution)
        assert drawn.image.shape == (resolution, resolution, 3) and drawn.image.dtype == np.uint8
        assert set(np.unique(drawn.segmentation)) == set(range(len(scene.objects) + 1))
        changed = (drawn.image != np.array(BACKGROUNDS[scene.background], np.uint8)).any(-1)
        assert not (~changed & (drawn.segmentation > 0)).any()
        assert set(np.unique(drawn.edges)) == {0, 255}
        for index, (x0, y0, x1, y1) in enumerate(drawn.boxes):
            rows, columns = np.nonzero(drawn.segmentation == index + 1)
            assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert place_at((x0 + x1) / 2 / resolution, (y0 + y1) / 2 / resolution) == scene.objects[index].place


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_shapes_have_their_colour_area_and_center_of_mass(shape, size):
    drawn = render(one_object(shape, "black", size), 300)
    inside = drawn.segmentation == 1
    rows, columns = np.nonzero(inside)
    assert abs(rows.mean() - 149.5) < 1 and abs(columns.mean() - 149.5) < 1
    assert 0.4 < inside.sum() / (np.pi * (SIZES[size] * 150) ** 2) < 1.05
    untouched = inside & (drawn.edges == 0)
    assert (drawn.image[untouched] == COLOURS["black"]).all()


def test_large_neighbours_do_not_touch():
    for first in SHAPES:
        for second in SHAPES:
            for places, dx, dy in ((("center", "right"), 0.01, 0.0), (("top", "center"), 0.0, 0.01)):
                (x0, y0), (x1, y1) = (place_center(place) for place in places)
                scene = Scene(
                    (
                        SceneObject(first, "red", "large", places[0], x0 + dx, y0 + dy),
                        SceneObject(second, "blue", "large", places[1], x1 - dx, y1 - dy),
                    ),
                    "white",
                )
                drawn = render(scene, 64)
                assert (drawn.image[drawn.segmentation == 1] != COLOURS["blue"]).any(-1).all()
                gap_x = drawn.boxes[1][0] - drawn.boxes[0][2]
                gap_y = drawn.boxes[1][1] - drawn.boxes[0][3]
                assert max(gap_x, gap_y) >= 1


def test_resolutions_show_the_same_picture(scenes):
    for scene in scenes[:20]:
        fine = render(scene, 256).image.reshape(64, 4, 64, 4, 3).mean((1, 3))
        assert np.abs(fine - render(scene, 64).image).mean() < 1.0
