"""What tells duplicates: the hash of an image hardly changes when it is encoded anew, and does for another image."""

import io

import numpy as np
import PIL.Image
import pytest

from cm3leon_jax.data.prepare import PrepareConfig
from cm3leon_jax.data.prepare.likeness import caption_key, difference_hash, differing_bits, digest

BITS = PrepareConfig().near_duplicate_bits


def picture(seed, size=256):
    """Smooth areas of colour, as photographs have them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((size, size), PIL.Image.Resampling.BICUBIC)


def bits_between(one, other):
    return int(differing_bits(difference_hash(np.asarray(one)), difference_hash(np.asarray(other))[None])[0])


def as_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return PIL.Image.open(file)


@pytest.mark.parametrize("seed", range(5))
def test_encoding_anew_changes_few_bits(seed):
    image = picture(seed)
    assert bits_between(image, as_jpeg(image, 60)) <= BITS
    assert bits_between(image, image.resize((180, 180)).resize((256, 256))) <= BITS
    assert bits_between(image, image.point(lambda level: level * 0.97)) <= BITS


def test_other_images_differ_in_many_bits():
    images = [picture(seed) for seed in range(40)]
    least = min(bits_between(one, other) for index, one in enumerate(images) for other in images[:index])
    assert least > 5 * BITS
    assert bits_between(images[0], images[0].transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)) > 5 * BITS


def test_noise_on_a_flat_image_changes_nothing():
    flat = np.full((64, 64, 3), 200, np.uint8)
    noisy = flat + np.random.default_rng(0).integers(0, 3, flat.shape, dtype=np.uint8)
    assert bits_between(flat, noisy) == 0


def test_captions_are_the_same_but_for_case_and_punctuation():
    assert caption_key("A cat,  sitting.") == caption_key("a CAT sitting")
    assert caption_key("a cat sitting") != caption_key("a cat sits")
    assert caption_key("Straße") == caption_key("STRASSE") and caption_key("!") != caption_key("?")


def test_digests_are_of_image_and_caption():
    image = np.zeros((4, 6, 3), np.uint8)
    assert digest([("a", image)]) == digest([("a", image.copy())]) != digest([("b", image)])
    assert digest([("a", image)]) != digest([("a", image.reshape(6, 4, 3))])
    assert digest([("a", image[:2]), ("b", image[2:])]) != digest([("ab", image)])
