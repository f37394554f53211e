import io

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

from cm3leon_jax.data.scenes.facts import all_facts, score
from cm3leon_jax.data.scenes.reader import read_objects, read_scene
from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.world import BACKGROUNDS, COLOURS, SHAPES, WorldConfig, sample_scene


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(3)
    return [sample_scene(rng, WorldConfig()) for _ in range(300)]


def accuracy(scenes, images) -> float:
    results = [score(all_facts(scene), read_scene(image)) for scene, image in zip(scenes, images, strict=True)]
    return sum(true for true, _ in results) / sum(total for _, total in results)


def spoiled(image: np.ndarray, rng: np.random.Generator, *, blur: float, noise: float, quality: int) -> np.ndarray:
    blurred = scipy.ndimage.gaussian_filter(image.astype(np.float32), (blur, blur, 0))
    noisy = np.clip(blurred + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(noisy).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file))


@pytest.mark.parametrize(("resolution", "least"), [(64, 0.995), (256, 0.995), (32, 0.98), (100, 0.99)])
def test_true_renderings_are_read_at_any_resolution(scenes, resolution, least):
    assert accuracy(scenes, [render(scene, resolution).image for scene in scenes]) >= least


def test_background_and_positions_are_read(scenes):
    for scene in scenes[:100]:
        read = read_scene(render(scene, 64).image)
        assert read.background == scene.background
        found = {item.place: item for item in read.objects}
        for item in scene.objects:
            assert abs(found[item.place].x - item.x) < 0.01 and abs(found[item.place].y - item.y) < 0.01


def test_blurred_noisy_compressed_images_are_read(scenes):
    rng = np.random.default_rng(4)
    images = [spoiled(render(scene, 64).image, rng, blur=0.7, noise=8, quality=75) for scene in scenes]
    assert accuracy(scenes, images) >= 0.97


def test_every_shape_and_colour_survives_on_every_background():
    world = WorldConfig(count_probabilities=(1.0,), jitter=0.015)
    rng = np.random.default_rng(5)
    seen = set()
    for _ in range(600):
        scene = sample_scene(rng, world)
        assert read_scene(render(scene, 64).image).key() == scene.key()
        seen.add((scene.objects[0].shape, scene.objects[0].colour, scene.background))
    assert len(seen) > 0.95 * len(SHAPES) * len(COLOURS) * len(BACKGROUNDS)


def test_images_without_objects_give_empty_scenes():
    assert read_scene(np.full((64, 64, 3), 240, np.uint8)).objects == ()
    specks = np.full((64, 64, 3), 250, np.uint8)
    specks[10:13, 10:13] = 0
    specks[40, 50] = (255, 0, 0)
    assert read_scene(specks).objects == ()


def test_noise_is_a_scene_without_confident_objects():
    image = np.random.default_rng(6).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    _, objects = read_objects(image)
    assert all(found.fit < 0.6 for found in objects)
    assert read_scene(image).objects == ()
