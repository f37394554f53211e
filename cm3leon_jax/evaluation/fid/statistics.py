"""Mean and covariance of features, one batch after the other: all that the Fréchet distance needs to know."""

from __future__ import annotations

import dataclasses

import numpy as np

from cm3leon_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Origin:
    """What features were computed from, and by what. What is empty is not known."""

    network: str = ""
    fingerprint: str = ""
    resolution: tuple[int, ...] = ()  # height and width of the images, before the network resized them

    def check_comparable(self, other: Origin) -> None:
        """`UserError` where both say something, and not the same."""
        for what, ours, theirs, remedy in (
            ("network", self.network, other.network, "the same network"),
            ("weights", self.fingerprint, other.fingerprint, "the same weights"),
            ("resolution", _pixels(self.resolution), _pixels(other.resolution), "images of the same size"),
        ):
            if ours and theirs and ours != theirs:
                raise UserError(f"statistics of another {what} ({ours} and {theirs}); compute both with {remedy}")

    def known_from(self, other: Origin) -> Origin:
        """With what `other` knows besides."""
        return Origin(
            self.network or other.network,
            self.fingerprint or other.fingerprint,
            self.resolution or other.resolution,
        )


class FeatureStatistics:
    """Count, mean and covariance of features of `dim` numbers, in float64.

    Batches and parts are joined by their deviations from their own means (Chan et al. 1979), which is as exact as two
    passes. `count` is 0 where a file does not say it; such statistics can be compared and not continued.
    """

    def __init__(self, dim: int, origin: Origin | None = None):
        self.origin = origin or Origin()
        self.count = 0
        self._mean = np.zeros(dim)
        self._scatter = np.zeros((dim, dim))  # sum over features of the outer product of their deviations
        self._covariance: np.ndarray | None = None  # of statistics whose count is not known

    @classmethod
    def of_moments(
        cls, mean: np.ndarray, covariance: np.ndarray, count: int = 0, origin: Origin | None = None
    ) -> FeatureStatistics:
        """From mean [D], covariance [D, D] (with N - 1 below, as `numpy.cov` has it) and the number of features."""
        statistics = cls(len(mean), origin)
        statistics.count = count
        statistics._mean = np.array(mean, np.float64)
        if count:
            statistics._scatter = np.array(covariance, np.float64) * max(count - 1, 0)
        else:
            statistics._covariance = np.array(covariance, np.float64)
        return statistics

    @property
    def dim(self) -> int:
        return len(self._mean)

    @property
    def mean(self) -> np.ndarray:
        """float64 [D]."""
        return self._mean

    @property
    def covariance(self) -> np.ndarray:
        """float64 [D, D], with N - 1 below. `UserError` for fewer than two features."""
        if self._covariance is not None:
            return self._covariance
        if self.count < 2:
            raise UserError(f"{self.count} images have no covariance; give two or more (FID is usual with 30,000)")
        return self._scatter / (self.count - 1)

    def check_comparable(self, origin: Origin, dim: int) -> None:
        """`UserError` where features of `dim` numbers and that origin cannot be compared with these."""
        self.origin.check_comparable(origin)
        if dim != self.dim:
            raise UserError(
                f"statistics of {self.dim} numbers an image, and features of {dim}; compute both with the same network "
                "and layer"
            )

    def update(self, features: np.ndarray) -> None:
        """Adds features [N, D]. `ValueError`: of another dimension; `UserError`: not finite."""
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"features are {features.shape}; expected [N, {self.dim}]")
        if not np.isfinite(features).all():
            raise UserError("features that are not finite; look at the feature network's weights")
        if len(features):
            mean = features.mean(0)
            deviations = features - mean
            self._join(len(features), mean, deviations.T @ deviations)

    def merge(self, other: FeatureStatistics) -> None:
        """Adds what another process or an earlier run has seen. Raises `UserError` where it is of another network,
        other weights or another resolution."""
        self.origin.check_comparable(other.origin)
        if other.dim != self.dim:
            raise UserError(f"statistics of {other.dim} numbers an image cannot be added to those of {self.dim}")
        if other._covariance is not None:
            raise UserError("statistics that do not say of how many images they are cannot be added to")
        self.origin = self.origin.known_from(other.origin)
        if other.count:
            self._join(other.count, other._mean, other._scatter)

    def _join(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if self._covariance is not None:
            raise UserError("statistics that do not say of how many images they are cannot be continued")
        total = self.count + count
        shift = mean - self._mean
        self._scatter += scatter
        self._scatter += np.outer(shift, shift * (self.count * count / total))
        self._mean = self._mean + shift * (count / total)
        self.count = total


def _pixels(resolution: tuple[int, ...]) -> str:
    return " by ".join(map(str, resolution))
