"""Shares with their uncertainty: a ratio of counts over examples, and its bootstrap interval."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

BOOTSTRAP_DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Share:
    """`value` = hits / total over all examples (each fact counts once), `low` and `high` its 95% interval.

    All three are None where there was nothing to count.
    """

    value: float | None
    low: float | None
    high: float | None
    hits: int
    total: int
    examples: int

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)


def share(hits: npt.ArrayLike, totals: npt.ArrayLike, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS) -> Share:
    """Hits and totals of each example [N] -> their ratio of sums, with the percentile bootstrap over examples.

    Whole examples are drawn, not single facts, because the facts of one image stand and fall together. The same
    arguments give the same interval.
    """
    hits_N = np.asarray(hits, np.int64).reshape(-1)
    totals_N = np.asarray(totals, np.int64).reshape(-1)
    if len(hits_N) != len(totals_N) or (hits_N > totals_N).any() or (hits_N < 0).any():
        raise ValueError("every example has 0 <= hits <= total")
    counted = totals_N > 0
    hits_N, totals_N = hits_N[counted], totals_N[counted]
    count, hit, total = len(hits_N), int(hits_N.sum()), int(totals_N.sum())
    if not total:
        return Share(None, None, None, 0, 0, 0)
    times_drawn_RxN = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    ratios_R = (times_drawn_RxN @ hits_N) / (times_drawn_RxN @ totals_N)
    low, high = np.quantile(ratios_R, [0.025, 0.975])
    return Share(hit / total, float(low), float(high), hit, total, count)
