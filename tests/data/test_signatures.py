"""What tells duplicates: near copies are told from other images, by their colours too."""

import functools
import io

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from cm3leon_jax.data.prepare.signatures import (
    COEFFICIENTS,
    LEAST_CONTRAST,
    SKETCH,
    THUMBNAIL,
    are_near_copies,
    caption_key,
    document_digest,
    pixel_digest,
    sketches,
    thumbnail,
)


@functools.cache
def smooth_image(seed, size=192):
    """Smooth areas of colour with some detail, as photographs have them."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size, size, 3))
    for cells, strength in ((4, 1.0), (8, 0.5), (24, 0.25)):
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        image += strength * np.asarray(coarse.resize((size, size), PIL.Image.Resampling.BICUBIC), float)
    return (image / 1.75).astype(np.uint8)


def compressed(image, quality):
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file))


def resized(image, side):
    size = image.shape[1], image.shape[0]
    return np.asarray(PIL.Image.fromarray(image).resize((side, side)).resize(size))


def cropped(image, left, top, share=0.98):
    side = len(image)
    box = (left * side, top * side, (left + share) * side, (top + share) * side)
    return np.asarray(PIL.Image.fromarray(image).resize((side, side), PIL.Image.Resampling.BICUBIC, box=box))


def are_near(one, other):
    return bool(are_near_copies(thumbnail(one)[None], thumbnail(other)[None])[0])


@pytest.mark.parametrize("seed", range(5))
def test_near_copies_are_found(seed):
    image = smooth_image(seed)
    assert are_near(image, image)
    assert are_near(image, compressed(image, 30))
    assert are_near(image, resized(image, 96)) and are_near(image, resized(image, 384))
    for left, top in ((0, 0), (0.02, 0), (0.01, 0.01), (0.02, 0.02)):
        assert are_near(image, cropped(image, left, top))
        assert are_near(compressed(cropped(image, left, top), 60), image)


def test_other_images_are_not():
    thumbnails = np.stack([thumbnail(smooth_image(seed)) for seed in range(40)])
    one, other = np.triu_indices(40, 1)
    assert not are_near_copies(thumbnails[one], thumbnails[other]).any()
    image = smooth_image(0)
    for changed in (image[:, ::-1], np.rot90(image), 255 - image, image[:, :, ::-1], cropped(image, 0.1, 0.1, 0.8)):
        assert not are_near(image, np.ascontiguousarray(changed))


def test_a_part_that_was_changed_is_seen():
    image = smooth_image(0)
    changed = image.copy()
    changed[60:90, 60:90] = changed[60:90, 60:90] // 2
    assert not are_near(image, changed)


def test_discs_of_ten_colours_are_ten_images():
    """Some of the same brightness, which a hash of grey levels takes for one."""
    colours = ["red", "green", "blue", "yellow", "magenta", "cyan", "orange", "purple", "black", "gray"]
    discs = []
    for colour in colours:
        disc = PIL.Image.new("RGB", (64, 64), "white")
        PIL.ImageDraw.Draw(disc).ellipse((12, 12, 52, 52), fill=colour)
        discs.append(np.asarray(disc))
    for index, one in enumerate(discs):
        assert are_near(one, compressed(one, 75))
        for other in discs[:index]:
            assert not are_near(one, other)


def test_a_sketch_has_the_energy_of_the_low_frequencies():
    rows = np.linspace(0, 4 * np.pi, 256)
    wave = np.broadcast_to((127.5 + 60 * np.cos(rows))[None, :, None], (256, 256, 3)).astype(np.uint8)
    sketch = sketches(thumbnail(wave)[None]).astype(np.float32)[0]
    assert abs(sketch[0] - 127) < 1 and abs(sketch[36] - 128) < 1 and abs(sketch[42] - 128) < 1
    assert abs(np.linalg.norm(sketch[1:36]) - 60 / np.sqrt(2)) < 2 and sketch[COEFFICIENTS] > 35
    flat = sketches(thumbnail(np.full((64, 64, 3), 200, np.uint8))[None])[0]
    assert flat[COEFFICIENTS] < LEAST_CONTRAST and not np.any(flat[1:36] > 0.1)


def test_no_images_have_no_sketches():
    assert sketches(np.zeros((0, THUMBNAIL), np.uint8)).shape == (0, SKETCH)


def test_captions_are_the_same_but_for_case_and_punctuation():
    assert caption_key("A cat,  sitting.") == caption_key("a CAT sitting")
    assert caption_key("a cat sitting") != caption_key("a cat sits")
    assert caption_key("Straße") == caption_key("STRASSE") and caption_key("!") != caption_key("?")


def test_digests_are_of_image_and_caption():
    image = np.zeros((4, 6, 3), np.uint8)
    assert document_digest([("a", image)]) == document_digest([("a", image.copy())]) != document_digest([("b", image)])
    assert document_digest([("a", image)]) != document_digest([("a", image.reshape(6, 4, 3))])
    assert document_digest([("a", image[:2]), ("b", image[2:])]) != document_digest([("ab", image)])
    assert pixel_digest(image) == pixel_digest(image.copy()) != pixel_digest(image + 1)
