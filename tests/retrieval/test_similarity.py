"""The calibrated similarity: what near copies exceed and other documents do not."""

import numpy as np
import pytest

from cm3leon_jax.retrieval.near_copies import compressed, cropped, near_copy, reworded, scaled
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.retrieval.similarity import FEWEST, Similarity, calibrate


class Pixels:
    """An encoder that sees colours and counts letters."""

    dim = 96

    def embed_texts(self, texts):
        counts = np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float)
        return self._unit(np.pad(counts, ((0, 0), (0, 70))))

    def embed_images(self, images):
        return self._unit(
            np.stack([scaled(image, 0.25)[::8, ::8] for image in images]).reshape(len(images), -1) - 127.0
        )

    def combine(self, text, image):
        return self._unit(text + np.pad(image, ((0, 0), (0, self.dim - image.shape[1]))))

    @staticmethod
    def _unit(vectors):
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def documents(count, seed):
    """Images of 32 pixels with three coloured patches, and captions of three words."""
    random = np.random.default_rng(seed)
    images = np.full((count, 32, 32, 3), 255, np.uint8)
    for image in images:
        for _ in range(3):
            top, left = random.integers(0, 20, 2)
            image[top : top + 12, left : left + 12] = random.integers(0, 256, 3)
    words = ["".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(200)]
    return list(images), [f"A {' '.join(random.choice(words, 3))}." for _ in range(count)]


def test_near_copies_of_other_documents_exceed_it_and_other_documents_do_not():
    encoder, (images, captions) = Pixels(), documents(400, 0)
    similarity = calibrate(encoder, images, captions)
    assert similarity.documents == 400
    images, captions = documents(300, 1)
    own = encoder.combine(encoder.embed_texts(captions), encoder.embed_images(images))
    random = np.random.default_rng(9)
    copies = [near_copy(image, caption, random) for image, caption in zip(images, captions, strict=True)]
    texts = encoder.embed_texts([caption for _, caption in copies])
    found = encoder.combine(texts, encoder.embed_images([image for image, _ in copies]))
    assert np.mean(np.sum(own * found, axis=1) > similarity.threshold) == pytest.approx(0.95, abs=0.04)
    between = (own @ own.T)[~np.eye(300, dtype=bool)]
    assert np.mean(between > similarity.threshold) < 0.01


def test_few_documents_are_too_few():
    similarity = calibrate(Pixels(), *documents(FEWEST - 1, 0))
    assert similarity == Similarity(None, None)
    assert similarity.settle(SelectionConfig()) == SelectionConfig()


def test_what_is_set_stays():
    similarity = Similarity(0.8, 0.7, 300)
    settled = similarity.settle(SelectionConfig(by_image=1))
    assert (settled.threshold, settled.text_threshold, settled.by_image) == (0.8, 0.7, 1)
    assert similarity.settle(SelectionConfig(threshold=0.9)).threshold == 0.9


def test_copies_keep_what_they_show():
    (image,), _ = documents(1, 3)
    for copy in (cropped(image, 0.06), scaled(image, 0.5), compressed(image, 20)):
        assert copy.shape == image.shape and copy.dtype == np.uint8
        assert 0 < np.abs(copy.astype(int) - image).mean() < 30
    random = np.random.default_rng(0)
    said = {reworded("A red Fox, the old one.", random) for _ in range(50)}
    assert said == {"A red Fox, the old one.", "a red fox the old one", "red Fox, old one."}
    assert reworded("the", random) and reworded("!", random)
