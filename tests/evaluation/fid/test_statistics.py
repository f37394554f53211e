"""Streamed statistics equal those of two passes, through batches, parts and files; strangers are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics, Origin
from cm3leon_jax.evaluation.fid.statistics_files import load_statistics, save_statistics
from cm3leon_jax.runtime.errors import UserError

ORIGIN = Origin("inception", "abc", (256, 256))


def random_features(count: int, dim: int = 24, seed: int = 0) -> np.ndarray:
    """Correlated, with means a thousand times their deviations: what naive sums of squares fail on."""
    random = np.random.default_rng(seed)
    return 1000 + random.standard_normal((count, dim)) @ random.standard_normal((dim, dim))


def statistics_of(features: np.ndarray, sizes=(7,), origin: Origin | None = None) -> FeatureStatistics:
    statistics, start = FeatureStatistics(features.shape[1], origin), 0
    while start < len(features):
        for size in sizes:
            statistics.update(features[start : start + size])
            start += size
    return statistics


def check_two_passes(statistics: FeatureStatistics, features: np.ndarray) -> None:
    expected = np.cov(features, rowvar=False)
    assert statistics.count == len(features)
    assert np.abs(statistics.mean - features.mean(0)).max() <= 1e-8 * np.abs(features.mean(0)).max()
    assert np.abs(statistics.covariance - expected).max() <= 1e-8 * np.abs(expected).max()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=3).filter(any), st.integers(0, 5))
def test_equals_two_passes(sizes, seed):
    features = random_features(60, seed=seed)
    check_two_passes(statistics_of(features, sizes), features)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=4))
def test_parts_are_merged(cuts):
    features = random_features(200)
    whole = FeatureStatistics(features.shape[1])
    for part in np.split(features, sorted(cuts)):
        whole.merge(statistics_of(part))
    check_two_passes(whole, features)


@pytest.mark.parametrize("cut", [0, 1, 2, 150, 200])
def test_a_saved_part_is_continued(cut, tmp_path):
    features = random_features(200)
    if cut:
        save_statistics(tmp_path / "a.npz", statistics_of(features[:cut], origin=ORIGIN))
        statistics = load_statistics(tmp_path / "a.npz")
        assert statistics.origin == ORIGIN
    else:
        statistics = FeatureStatistics(features.shape[1])
    statistics.update(features[cut:])
    check_two_passes(statistics, features)


def test_object_stores(bucket):
    features = random_features(50)
    save_statistics("gs://bucket/a.npz", statistics_of(features))
    check_two_passes(load_statistics("gs://bucket/a.npz"), features)


def test_files_of_pytorch_fid(tmp_path):
    features = random_features(50)
    expected = features.mean(0), np.cov(features, rowvar=False)
    np.savez_compressed(tmp_path / "theirs.npz", mu=expected[0], sigma=expected[1])
    theirs = load_statistics(tmp_path / "theirs.npz")
    save_statistics(tmp_path / "ours.npz", statistics_of(features))
    with np.load(tmp_path / "ours.npz") as ours:
        for name, exact in zip(("mu", "sigma"), expected, strict=True):
            np.testing.assert_allclose(ours[name], exact, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(theirs.mean, expected[0])
    np.testing.assert_array_equal(theirs.covariance, expected[1])
    assert theirs.count == 0 and theirs.origin == Origin()
    with pytest.raises(UserError, match="cannot be continued"):
        theirs.update(features)
    with pytest.raises(UserError, match="cannot be added"):
        statistics_of(features).merge(theirs)
    save_statistics(tmp_path / "again.npz", theirs)
    np.testing.assert_array_equal(load_statistics(tmp_path / "again.npz").covariance, expected[1])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Origin("clip", "abc", (256, 256)), "another network .inception and clip"),
        (Origin("inception", "abd", (256, 256)), "another weights"),
        (Origin("inception", "abc", (64, 64)), "another resolution .256 by 256 and 64 by 64"),
    ],
)
def test_statistics_of_something_else_are_refused(other, words):
    features = random_features(9)
    with pytest.raises(UserError, match=words):
        statistics_of(features, origin=ORIGIN).merge(statistics_of(features, origin=other))


def test_what_is_not_known_is_not_compared():
    features = random_features(9)
    statistics = statistics_of(features, origin=Origin(network="inception"))
    statistics.merge(statistics_of(features, origin=ORIGIN))
    assert statistics.origin == ORIGIN


def write(path, **arrays):
    np.savez(path, **{"mu": np.zeros(3), "sigma": np.eye(3)} | arrays)


def test_files_that_cannot_be_used(tmp_path):
    path = tmp_path / "a.npz"

    def refused(words):
        with pytest.raises(UserError, match=words) as error:
            load_statistics(path)
        assert str(error.value).isprintable() and str(path) in str(error.value)

    refused("no statistics at")
    for data in (b"", b"PK\x03\x04", b"\x93NUMPY"):
        path.write_bytes(data)
        refused("cannot be read")
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.with_suffix(".npy").rename(path)
    refused("cannot be read")
    for arrays, words in (
        ({"sigma": np.eye(4)}, r"mu is \[3\] and sigma \[4, 4\]"),
        ({"mu": np.full(3, np.nan)}, "not finite"),
        ({"mu": np.array([1, 2, None])}, "cannot be read"),
        ({"mu": np.zeros(3, int)}, "mu and sigma are int64"),
        ({"count": np.array("many")}, "cannot be read"),
        ({"count": np.int64(-3)}, "count is -3"),
    ):
        write(path, **arrays)
        refused(words)
    np.savez(path, mu=np.zeros(3))
    refused("sigma")
    write(path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        refused("cannot be read")


def test_features_that_cannot_be_used():
    statistics = FeatureStatistics(3)
    with pytest.raises(UserError, match="not finite"):
        statistics.update([[0, np.nan, 0]])
    with pytest.raises(ValueError, match=r"expected \[N, 3\]"):
        statistics.update(np.zeros((2, 4)))
    statistics.update(np.zeros((1, 3)))
    with pytest.raises(UserError, match="1 images have no covariance"):
        _ = statistics.covariance
