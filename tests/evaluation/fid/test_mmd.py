"""CMMD equals the published formula over all pairs at once, whatever the blocks; resamples equal repeated rows."""

import numpy as np
import pytest

from cm3leon_jax.evaluation.fid import mmd
from cm3leon_jax.evaluation.fid.mmd import cmmd, weighted_cmmd
from cm3leon_jax.runtime.errors import UserError


def embeddings(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((count, 16)) + shift
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.exp(-((x[:, None].astype(float) - y[None]) ** 2).sum(-1) / (2 * 10**2))


def slow(x, y, unbiased) -> float:
    within = []
    for z in (x, y):
        k, n = kernel(z, z), len(z)
        within.append((k.sum() - np.trace(k)) / (n * (n - 1)) if unbiased else k.mean())
    return 1000 * (sum(within) - 2 * kernel(x, y).mean())


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("block", [2048, 7])
def test_equals_the_published_formula(block, unbiased, monkeypatch):
    monkeypatch.setattr(mmd, "_BLOCK", block)
    x, y = embeddings(40, 0), embeddings(33, 1, shift=0.3)
    assert cmmd(x, y, unbiased=unbiased) == pytest.approx(slow(x, y, unbiased), abs=1e-6)
    assert cmmd(5 * x, y, unbiased=unbiased) == pytest.approx(slow(x, y, unbiased), abs=1e-6)
    assert cmmd(y, x) > 0.1


def test_of_equal_sets():
    x, y = embeddings(500, 0), embeddings(400, 1)
    assert cmmd(x, x) == pytest.approx(0, abs=1e-9)
    assert 0 < cmmd(x, y) < 0.1
    assert abs(cmmd(x, y, unbiased=True)) < 0.3 * cmmd(x, y)


@pytest.mark.parametrize("unbiased", [False, True])
def test_resamples_are_repeated_rows(unbiased, monkeypatch):
    monkeypatch.setattr(mmd, "_BLOCK", 9)
    x, y = embeddings(20, 0), embeddings(25, 1, shift=0.3)
    times = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=3)
    expected = [slow(x, y.repeat(row, axis=0), unbiased) for row in times]
    np.testing.assert_allclose(weighted_cmmd(x, y, times.T, unbiased=unbiased), expected, atol=1e-6)


def test_what_cannot_be_measured():
    x = embeddings(3, 0)
    with pytest.raises(UserError, match="CMMD of 3 and 0 images"):
        cmmd(x, x[:0])
    with pytest.raises(UserError, match="CMMD of 1 and 3 images"):
        cmmd(x[:1], x, unbiased=True)
    with pytest.raises(UserError, match="no length"):
        cmmd(x, 0 * x)
