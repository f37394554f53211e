"""CMMD: the squared maximum mean discrepancy of two sets of image embeddings (Jayasumana et al. 2024, §4).

The kernel is Gaussian, of width 10 on embeddings of unit length, and the result is multiplied by 1000. By default all
pairs count, an image's with itself too, as in the published code (the V-statistic, never negative); the paper's
equation 4 leaves those out and has no bias.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cm3leon_jax.runtime.errors import UserError

WIDTH = 10.0
SCALE = 1000.0
_BLOCK = 2048  # embeddings; kernels of so many by so many are in memory at a time (32 MiB)


def cmmd(x: np.ndarray, y: np.ndarray, *, unbiased: bool = False) -> float:
    """Embeddings [M, D] and [N, D], of any lengths but zero -> CMMD. Raises `UserError`."""
    return float(weighted_cmmd(x, y, np.ones((len(y), 1)), unbiased=unbiased)[0])


def weighted_cmmd(x: np.ndarray, y: np.ndarray, times_NxR: np.ndarray, *, unbiased: bool = False) -> np.ndarray:
    """`cmmd` for R sets that hold each embedding of `y` so many times -> float64 [R], in one pass over all pairs."""
    x, y, times = _unit(x), _unit(y), np.asarray(times_NxR, np.float64)
    left_out = 1 if unbiased else 0
    if min(len(x), *times.sum(0)) <= left_out:
        raise UserError(f"CMMD of {len(x)} and {len(y)} images; give two or more of each")
    ones = np.ones((len(x), 1))
    within_x = _pair_sum(x, x, ones, ones) / (len(x) * (len(x) - left_out))
    count = times.sum(0)
    within_y = _pair_sum(y, y, times, times) / (count * (count - left_out))
    between = _pair_sum(x, y, ones, times) / (len(x) * count)
    return SCALE * (within_x + within_y - 2 * between)


def _unit(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, np.float64)
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        raise UserError("embeddings of no length, or not finite; look at the feature network's weights")
    return embeddings / lengths


def _pair_sum(a: np.ndarray, b: np.ndarray, times_a: np.ndarray, times_b: np.ndarray) -> np.ndarray:
    """Σᵢⱼ times_a[i] (k(aᵢ, bⱼ) - 1) times_b[j] -> [R]; where `b` is `a`, from half of the blocks."""
    total = np.zeros(max(times_a.shape[1], times_b.shape[1]))
    for rows in _blocks(len(a)):
        for columns in _blocks(len(b)):
            if b is a and columns.start < rows.start:
                continue
            once = 1 if b is not a or columns == rows else 2
            kernel = _kernel_less_one(a[rows], b[columns])
            total += once * (times_a[rows] * (kernel @ times_b[columns])).sum(0)
    return total


def _kernel_less_one(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """All kernels of unit vectors lie between 0.98 and 1; the ones cancel in a discrepancy, and are left out before
    their digits are lost. A pair of an image with itself counts nothing."""
    squared_distances = np.maximum(2 - 2 * (a @ b.T), 0)
    return np.expm1(squared_distances / (-2 * WIDTH**2))


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))
