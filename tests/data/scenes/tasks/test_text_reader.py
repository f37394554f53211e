"""Letters drawn and read."""

import itertools
import string

import numpy as np
import pytest
import scipy.ndimage
from scene_task_examples import made

from cm3leon_jax.data.scenes.tasks.lettering import draw_text
from cm3leon_jax.data.scenes.tasks.letters import LETTERS
from cm3leon_jax.data.scenes.tasks.text_reader import read_text
from cm3leon_jax.runtime.errors import UserError

TEXTS = ("abcdef ghijkl", "mnopqr stuvwx", "yz", "qoqdoc vuywnm")


def test_letters_differ_in_several_pixels():
    assert "".join(LETTERS) == string.ascii_lowercase
    assert all(bitmap.shape == (7, 5) for bitmap in LETTERS.values())
    assert min((LETTERS[a] != LETTERS[b]).sum() for a, b in itertools.combinations(LETTERS, 2)) >= 3


@pytest.mark.parametrize("resolution", [64, 96, 128, 256])
@pytest.mark.parametrize("text", TEXTS)
def test_true_drawings_are_read_exactly(text, resolution):
    image = draw_text(text, resolution)
    assert image.shape == (resolution, resolution, 3) and image.dtype == np.uint8
    assert read_text(image) == text


def test_examples_are_read_exactly():
    for each in made("text_rendering"):
        assert read_text(draw_text(each.metadata["text"], 64)) == each.fields["text"]


@pytest.mark.parametrize("noise", [0, 8])
@pytest.mark.parametrize("blur", [0.5, 0.8, 1.0])
def test_blur_and_noise_of_a_tokenizer_do_no_harm(blur, noise):
    rng = np.random.default_rng(0)
    for text in TEXTS:
        image = scipy.ndimage.gaussian_filter(draw_text(text, 64).astype(float), (blur, blur, 0))
        image = np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
        assert read_text(image) == text


def test_a_letter_is_one_patch_wherever_it_stands():
    image = draw_text("aba bab", 64)
    patches = image.reshape(8, 8, 8, 8, 3).swapaxes(1, 2)
    assert np.array_equal(patches[3, 1], patches[3, 3]) and np.array_equal(patches[3, 1], patches[4, 2])
    assert len({patch.tobytes() for patch in patches.reshape(64, -1)}) == 3  # a, b and nothing


def test_what_is_no_letter_is_not_taken_for_one():
    assert read_text(np.full((64, 64, 3), 250, np.uint8)) == ""
    image = draw_text("ab", 64)
    image[24:32, 16:24] = 27
    assert read_text(image) == "a?"


def test_too_few_pixels_are_a_user_error():
    with pytest.raises(UserError, match="at least 64"):
        draw_text("ab", 32)
