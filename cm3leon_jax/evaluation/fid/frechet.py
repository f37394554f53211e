"""The Fréchet distance between two Gaussians (Heusel et al. 2017, §3; Dowson and Landau 1982), as pytorch-fid does it:
|m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½)."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.linalg

from cm3leon_jax.evaluation.fid.statistics import FeatureStatistics
from cm3leon_jax.runtime.errors import UserError

_OFFSET = 1e-6  # added to both diagonals where the root of the product is not finite
_LARGEST_IMAGINARY = 1e-3  # of the root's diagonal


def frechet_distance(one: FeatureStatistics, other: FeatureStatistics) -> float:
    """FID where the features are Inception's. Raises `UserError` where the two cannot be compared.

    With no more images than dimensions a covariance is singular, and the distance says little; pytorch-fid's number is
    then given, rounding errors of its root included.
    """
    one.origin.check_comparable(other.origin)
    if one.dim != other.dim:
        raise UserError(
            f"statistics of {one.dim} and of {other.dim} numbers an image; compute both with the same network"
        )
    first, second = one.covariance, other.covariance
    shift = one.mean - other.mean
    return float(shift @ shift + np.trace(first) + np.trace(second) - 2 * _trace_of_root(first, second))


def _trace_of_root(first: np.ndarray, second: np.ndarray) -> float:
    root = _root(first @ second)
    if not np.isfinite(root).all():
        offset = _OFFSET * np.eye(len(first))
        root = _root((first + offset) @ (second + offset))
    diagonal = np.diagonal(root)
    if not np.isfinite(diagonal).all() or (np.abs(diagonal.imag) > _LARGEST_IMAGINARY).any():
        raise UserError("the root of the covariances' product is not real; give more images than a feature has numbers")
    return float(diagonal.real.sum())


def _root(matrix: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is singular is seen by its numbers
        return np.asarray(scipy.linalg.sqrtm(matrix))
