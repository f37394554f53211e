"""The Fréchet distance equals pytorch-fid's, and the closed form where there is one."""

import warnings

import numpy as np
import pytest
from inception_reference import pytorch_fid

from cm3leon_jax.evaluation.fid.frechet import frechet_distance
from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics, Origin
from cm3leon_jax.runtime.errors import UserError


def gaussian(mean, covariance, **origin) -> FeatureStatistics:
    return FeatureStatistics.of_moments(np.asarray(mean, float), np.asarray(covariance, float), 0, Origin(**origin))


def sample(count: int, dim: int, seed: int) -> FeatureStatistics:
    random = np.random.default_rng(seed)
    features = random.standard_normal((count, dim)) * np.exp(-np.arange(dim) * random.uniform(2, 4) / dim)
    return gaussian(features.mean(0) + 0.1 * seed, np.cov(features, rowvar=False))


# The last three are singular, so that the root is taken of a product that has no good one.
@pytest.mark.parametrize(("first", "second", "dim"), [(1000, 1200, 64), (900, 900, 256), (20, 30, 64), (2, 2, 16)])
def test_equals_pytorch_fid(first, second, dim):
    one, other = sample(first, dim, 1), sample(second, dim, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pytorch_fid().fid_score.calculate_frechet_distance(
            one.mean, one.covariance, other.mean, other.covariance
        )
    found = frechet_distance(one, other)
    assert abs(found - expected) <= 1e-6 * max(1, expected)
    assert found > 0.1


def test_the_offset_of_singular_products(monkeypatch):
    """Where the root is not finite, both covariances get 1e-6 on their diagonals, as in pytorch-fid."""
    import scipy.linalg

    sqrtm, seen = scipy.linalg.sqrtm, []

    def broken_once(matrix, **options):
        seen.append(matrix)
        root = sqrtm(matrix) if len(seen) % 2 == 0 else np.full_like(matrix, np.nan)
        return (root, 0.0) if "disp" in options else root

    monkeypatch.setattr(scipy.linalg, "sqrtm", broken_once)
    one, other = sample(50, 8, 1), sample(60, 8, 2)
    found = frechet_distance(one, other)
    np.testing.assert_allclose(
        seen[1], (one.covariance + 1e-6 * np.eye(8)) @ (other.covariance + 1e-6 * np.eye(8)), rtol=1e-12
    )
    expected = pytorch_fid().fid_score.calculate_frechet_distance(
        one.mean, one.covariance, other.mean, other.covariance
    )
    assert len(seen) == 4 and abs(found - expected) <= 1e-6


def test_closed_form():
    """With covariances that commute: |m₁ - m₂|² + Σ (√λ₁ - √λ₂)²."""
    one, other = gaussian([1, 2, 3], np.diag([1, 4, 9])), gaussian([0, 2, 5], np.diag([4, 4, 1]))
    assert frechet_distance(one, other) == pytest.approx(1 + 4 + 1 + 0 + 4, abs=1e-9)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_what_cannot_be_compared():
    one = gaussian([0, 0], np.eye(2), network="inception", resolution=(256, 256))
    for other, words in (
        (gaussian([0, 0], np.eye(2), network="clip"), "another network"),
        (gaussian([0, 0], np.eye(2), resolution=(64, 64)), "another resolution"),
        (gaussian([0, 0, 0], np.eye(3)), "of 2 and of 3 numbers"),
        (FeatureStatistics(2), "0 images have no covariance"),
    ):
        with pytest.raises(UserError, match=words):
            frechet_distance(one, other)
    with pytest.raises(UserError, match="not real"):
        frechet_distance(gaussian([0, 0], np.diag([1, -1])), gaussian([0, 0], np.eye(2)))
