"""How sure a distance is: what it would be for other samples of generated images (the bootstrap).

Images are drawn with replacement from those there are. Each such set has fewer different images, so that distances of
distributions, all of which shrink with their number, come out too large; therefore only the draws' spread about their
own mean is used, around the value of the true sample. The references stay as they are: they are the benchmark.
"""

from __future__ import annotations

import numpy as np

from cm3leon_jax.evaluation.fid.mmd import weighted_cmmd
from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics
from cm3leon_jax.runtime.progress import progress

_BLOCK = 4096  # features that are made float64 at a time


def frechet_draws(reference: FeatureStatistics, features: np.ndarray, draws: int, *, seed: int = 0) -> np.ndarray:
    """Fréchet distances of so many resamples of features [N, D] to the reference, float64 [draws].

    The root's trace comes from eigenvalues of a symmetric matrix, which is exact and some twenty times faster than the
    root itself; the reference's factor is computed once.
    """
    values, vectors = np.linalg.eigh(reference.covariance)
    factor = vectors * np.sqrt(np.maximum(values, 0))
    trace, random = values.sum(), np.random.default_rng(seed)
    distances = np.zeros(draws)
    for draw in progress(range(draws), label="resamples", total=draws, unit="resamples", delay=5.0):
        drawn = FeatureStatistics(features.shape[1])
        indices = np.sort(random.integers(0, len(features), len(features)))
        for start in range(0, len(indices), _BLOCK):
            drawn.update(features[indices[start : start + _BLOCK]])
        covariance, shift = drawn.covariance, drawn.mean - reference.mean
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh(factor.T @ covariance @ factor), 0)).sum()
        distances[draw] = shift @ shift + trace + np.trace(covariance) - 2 * roots
    return distances


def cmmd_draws(
    references: np.ndarray, features: np.ndarray, draws: int, *, unbiased: bool = False, seed: int = 0
) -> np.ndarray:
    """`cmmd` of so many resamples of features [N, D], float64 [draws]."""
    count, random = len(features), np.random.default_rng(seed)
    times_RxN = random.multinomial(count, np.full(count, 1 / count), size=draws)
    return weighted_cmmd(references, features, times_RxN.T, unbiased=unbiased)


def interval(value: float, draws: np.ndarray) -> tuple[float, float]:
    """The 95% interval around a value: the draws' percentiles about their mean, put around it.

    No lower than 0, but for a value (of an estimator without bias) that is lower itself.
    """
    low, high = np.quantile(draws, [0.025, 0.975]) - draws.mean()
    return max(value + low, min(value, 0.0)), value + high
