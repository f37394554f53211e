"""Sets of images against each other: as pytorch-fid does it, in whatever pieces they come, in bounded memory."""

import dataclasses

import numpy as np
import pytest

from cm3leon_jax.evaluation.fid.distances import Distance, DistanceConfig, distances
from cm3leon_jax.evaluation.fid.features import batches_of, features_of, statistics_of
from cm3leon_jax.evaluation.fid.frechet import frechet_distance
from cm3leon_jax.evaluation.fid.mmd import cmmd
from cm3leon_jax.evaluation.fid.networks import clip_features
from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics, Origin
from cm3leon_jax.evaluation.fid.statistics_files import load_statistics, save_statistics
from cm3leon_jax.retrieval.clip.config import ClipConfig
from cm3leon_jax.retrieval.clip.encoders import init_params
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.runtime.errors import UserError

CLIP = ClipConfig(
    embedding_dim=8,
    vocab_size=8,
    text_width=8,
    text_layers=1,
    text_heads=1,
    image_resolution=16,
    patch_size=8,
    image_width=16,
    image_layers=1,
    image_heads=2,
)


@dataclasses.dataclass
class Means:
    """The mean colour of each quarter of an image."""

    name: str = "means"
    fingerprint: str = "1"
    dim: int = 12
    largest: int = 0  # batch that was seen

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.largest = max(self.largest, len(images))
        height, width = (side // 2 for side in images.shape[1:3])
        parts = images.reshape(len(images), 2, height, 2, width, 3).mean((2, 4), dtype=np.float32)
        return parts.reshape(len(images), 12)


def random_images(count: int, seed: int, side: int = 16) -> np.ndarray:
    random = np.random.default_rng(seed)
    colours = random.integers(0, 150 + 20 * seed, (count, 2, 2, 3)).repeat(side // 2, 1).repeat(side // 2, 2)
    return (colours + random.integers(0, 40, (count, side, side, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def clip():
    return clip_features(Retriever(CLIP, init_params(CLIP, 0), None, "weights", batch_size=8))


def expected_statistics(features: np.ndarray) -> FeatureStatistics:
    features = features.astype(np.float64)
    return FeatureStatistics.of_moments(features.mean(0), np.cov(features, rowvar=False))


def test_the_frechet_distance_of_two_sets():
    network, references, generated = Means(), random_images(90, 0), random_images(70, 1)
    pieces = (piece for piece in np.split(generated, [1, 30, 61]))
    (found,) = distances(iter(references), pieces, network, DistanceConfig(batch_size=16, draws=20), counts=(90, 70))
    expected = frechet_distance(expected_statistics(network(references)), expected_statistics(network(generated)))
    assert found.value == pytest.approx(expected, rel=1e-8)
    assert (found.name, found.references, found.generated) == ("FD (means)", 90, 70)
    assert found.low < found.value < found.high
    assert Distance(**found.to_dict()) == found
    again = distances([references], [generated], Means(), DistanceConfig(batch_size=16, draws=20))[0]
    assert again.low == pytest.approx(found.low) and again.high == pytest.approx(found.high)


def test_sets_that_are_not_kept_are_streamed():
    network, references, generated = Means(), random_images(90, 0), random_images(70, 1)
    with_interval, streamed = (
        distances([references], [generated], network, DistanceConfig(batch_size=8, draws=20, kept_bytes=kept))[0]
        for kept in (70 * 12 * 4, 70 * 12 * 4 - 1)
    )
    assert network.largest == 8
    assert streamed.value == with_interval.value
    assert with_interval.low is not None and streamed.low is None


def test_clip_has_both_distances(clip):
    references, generated = random_images(40, 0, side=32), random_images(30, 3, side=32)
    one, other = clip(references), clip(generated)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-5)
    frechet, discrepancy = distances([references], [generated], clip, DistanceConfig(batch_size=8, draws=20))
    assert (frechet.name, discrepancy.name) == ("CLIP-FD", "CMMD")
    assert frechet.value == pytest.approx(frechet_distance(*map(expected_statistics, (one, other))), abs=1e-6)
    assert discrepancy.value == pytest.approx(cmmd(one, other), abs=1e-6)
    assert discrepancy.low < discrepancy.value < discrepancy.high
    unbiased = distances([references], [generated], clip, DistanceConfig(draws=0, unbiased=True))[1]
    assert unbiased.value == pytest.approx(cmmd(one, other, unbiased=True), abs=1e-6) and unbiased.low is None
    (alone,) = distances(statistics_of([references], clip), [generated], clip, DistanceConfig(draws=0))
    assert alone.value == pytest.approx(frechet.value, rel=1e-6)


def test_saved_references(tmp_path):
    network, references, generated = Means(), random_images(90, 0), random_images(70, 1)
    statistics = statistics_of(references, network, batch_size=16, total=90)
    assert statistics.origin == Origin("means", "1", (16, 16)) and statistics.count == 90
    save_statistics(tmp_path / "a.npz", statistics)
    saved = load_statistics(tmp_path / "a.npz")
    config = DistanceConfig(draws=0)
    assert distances(saved, [generated], network, config) == distances(statistics, [generated], network, config)

    def no_images():
        raise AssertionError("an image was looked at")
        yield

    for other, words in ((Means(name="clip"), "another network"), (Means(fingerprint="2"), "another weights")):
        with pytest.raises(UserError, match=words):
            distances(saved, no_images(), other, config)
    with pytest.raises(UserError, match=r"another resolution \(16 by 16 and 32 by 32"):
        distances(saved, [random_images(9, 1, side=32)], network, config)
    assert saved.origin == statistics.origin


def test_images_in_pieces():
    images = random_images(23, 0)
    pieces = [*images[:3], images[3:4], images[4:4], images[4:17], images[17:]]
    found = list(batches_of(pieces, 5))
    assert [len(batch) for batch in found] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate(found), images)
    assert list(batches_of([], 5)) == []
    features = list(features_of(pieces, Means(), batch_size=5))
    np.testing.assert_array_equal(np.concatenate(features), Means()(images))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([np.zeros((4, 4, 3), np.float32)], r"float32 \[1, 4, 4, 3\]"),
        ([np.zeros((4, 4, 4), np.uint8)], "give uint8"),
        ([np.zeros((4, 4), np.uint8)], "give uint8"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((2, 6, 4, 3), np.uint8)], "of 4 by 4 and of 6 by 4 pixels"),
    ],
)
def test_images_that_cannot_be_used(images, words):
    with pytest.raises(UserError, match=words):
        list(batches_of(images, 5))


def test_settings_and_sets_that_cannot_be_used():
    for options in ({"batch_size": 0}, {"draws": 1}, {"draws": -1}, {"kept_bytes": -1}):
        with pytest.raises(UserError, match="distances need"):
            DistanceConfig(**options)
    with pytest.raises(UserError, match="0 images have no covariance"):
        distances([random_images(5, 0)], [], Means())
