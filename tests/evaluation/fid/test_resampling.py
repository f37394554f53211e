"""Resampled distances are those of the resampled features; intervals are as wide as theory says."""

import numpy as np
import pytest

from cm3leon_jax.evaluation.fid.frechet import frechet_distance
from cm3leon_jax.evaluation.fid.mmd import cmmd
from cm3leon_jax.evaluation.fid.resampling import cmmd_draws, frechet_draws, interval
from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics


def statistics_of(features: np.ndarray) -> FeatureStatistics:
    statistics = FeatureStatistics(features.shape[1])
    statistics.update(features)
    return statistics


def random_features(count: int, dim: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((count, dim)) + 0.2 * seed).astype(np.float32)


def test_frechet_draws_are_distances_of_resamples():
    references, features = random_features(300, 8, 1), random_features(200, 8, 2)
    random = np.random.default_rng(5)
    samples = [features[random.integers(0, 200, 200)] for _ in range(3)]
    expected = [frechet_distance(statistics_of(references), statistics_of(sample)) for sample in samples]
    np.testing.assert_allclose(frechet_draws(statistics_of(references), features, 3, seed=5), expected, atol=1e-6)


def test_cmmd_draws_are_distances_of_resamples():
    references, features = random_features(60, 8, 1), random_features(50, 8, 2)
    times = np.random.default_rng(5).multinomial(50, np.full(50, 1 / 50), size=2)
    expected = [cmmd(references, features.repeat(row, axis=0)) for row in times]
    np.testing.assert_allclose(cmmd_draws(references, features, 2, seed=5), expected, atol=1e-6)


def test_the_interval_is_as_wide_as_theory_says():
    """Of one dimension with means 2 apart, the distance is nearly (m₁ - m₂)², whose deviation is 2·2/√N."""
    references = FeatureStatistics.of_moments(np.zeros(1), np.eye(1))
    features = 2 + np.random.default_rng(0).standard_normal((400, 1))
    value = frechet_distance(references, statistics_of(features))
    low, high = interval(value, frechet_draws(references, features, 1000))
    assert low < value < high
    assert high - low == pytest.approx(2 * 1.96 * 4 / np.sqrt(400), rel=0.1)


def test_the_interval_holds_the_value_where_resampling_adds_a_bias():
    """With few images for the dimensions, every resample is farther away than the sample itself."""
    references = FeatureStatistics.of_moments(np.zeros(30), np.eye(30))
    features = random_features(90, 30, 0)
    value = frechet_distance(references, statistics_of(features))
    draws = frechet_draws(references, features, 50)
    assert draws.min() > value
    low, high = interval(value, draws)
    assert 0 <= low < value < high


def test_no_interval_goes_below_zero_but_for_a_value_there():
    draws = np.linspace(-1, 1, 101)
    assert interval(0.5, draws) == (0, pytest.approx(1.45))
    assert interval(-0.1, draws) == (-0.1, pytest.approx(0.85))
