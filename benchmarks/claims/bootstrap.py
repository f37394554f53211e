"""Shares with 95% intervals, from scores of several seeds on the same pictures: both are drawn anew."""

from __future__ import annotations

import dataclasses

import numpy as np

DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its interval; of a share, or of a difference of shares."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f}% ({100 * self.low:.1f} to {100 * self.high:.1f})"

    @property
    def points(self) -> str:
        """A difference, in percentage points."""
        return f"{100 * self.value:+.1f} points ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


class Resamples:
    """Seeds and pictures drawn with replacement, the same for all that is compared: so differences are paired.

    What is drawn of S seeds are their numbers, of N pictures whole ones, because the creatures of one picture stand and
    fall together. With few seeds the interval says little of their spread: it is that of these seeds, not of all.
    """

    def __init__(self, seeds: int, pictures: int, *, seed: int = 0, draws: int = DRAWS):
        rng = np.random.default_rng(seed)
        self._seeds_RxS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
        self._pictures_RxN = rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=draws)
        self._shape = seeds, pictures

    def share(self, hits_SxN: np.ndarray, totals_N: np.ndarray) -> np.ndarray:
        """Hits of each seed and picture, and what was asked for -> the share itself, then that of each draw: [1 + R].
        NaN where nothing was asked for."""
        seeds, pictures = self._shape
        if hits_SxN.shape != (seeds, pictures) or totals_N.shape != (pictures,):
            raise ValueError(f"{hits_SxN.shape} and {totals_N.shape} are not {seeds} seeds of {pictures} pictures")
        hits_R = np.einsum("rs,sn,rn->r", self._seeds_RxS, hits_SxN, self._pictures_RxN, optimize=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = hits_R / (seeds * (self._pictures_RxN @ totals_N))
            itself = hits_SxN.sum() / (seeds * totals_N.sum())
        return np.concatenate([[itself], drawn])


def estimate(values: np.ndarray) -> Estimate:
    """A statistic itself, then of each draw, [1 + R] -> with its percentile interval. Of NaN draws there is none."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return Estimate(float(values[0]), float(low), float(high))
