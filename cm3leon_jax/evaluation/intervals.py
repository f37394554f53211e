"""Figures with their uncertainty: the value over all examples, and its bootstrap interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

BOOTSTRAP_DRAWS = 2000
_CELLS_AT_ONCE = 16_000_000  # 128 MB of counts; 200,000 answers drawn 2000 times would need 3.2 GB
# From here on, examples that contribute the same are drawn together: the same distribution, but in seconds where few
# values occur (VQA accuracies) instead of minutes. Below, intervals stay what they are in results on disk.
_TOGETHER_FROM = 10_000


@dataclasses.dataclass(frozen=True)
class Interval:
    """`value` over all examples, `low` and `high` its 95% interval; all three None where there is no example."""

    value: float | None
    low: float | None
    high: float | None
    examples: int

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)


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
    result = bootstrap(
        np.stack([hits_N, totals_N], axis=1), of_sums=lambda sums: sums[..., 0] / sums[..., 1], seed=seed, draws=draws
    )
    return Share(result.value, result.low, result.high, hit, total, count)


def bootstrap(
    values: npt.ArrayLike,
    *,
    of_sums: Callable[[np.ndarray], np.ndarray] | None = None,
    of_examples: Callable[[np.ndarray], float] | None = None,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
) -> Interval:
    """What each example contributes [N] or [N, K] -> the metric over all of them, with the percentile bootstrap.

    Whole examples are drawn, with replacement. The metric is

    - by default the mean of `values` [N];
    - with `of_sums` a function of the sums over examples, [..., K] -> [...]: BLEU of counts, F1, a ratio;
    - with `of_examples` any function of the drawn examples [N, ...]: a median, an average precision. It is called
      once a draw, in Python.

    The same arguments give the same interval. `ValueError` for values that are not finite in a mean or a sum.
    """
    values_Nx = np.asarray(values)
    count = len(values_Nx)
    if not count:
        return Interval(None, None, None, 0)
    if of_examples is not None:
        value = of_examples(values_Nx)
        drawn_R = np.array([of_examples(values_Nx[rows]) for rows in _rows_drawn(count, seed, draws)], np.float64)
        return _interval(value, drawn_R, count)
    if not np.isfinite(values_Nx).all():
        raise ValueError("values of a mean or a sum must be finite")
    sums = of_sums or (lambda sums: sums / count)
    value = float(sums(values_Nx.sum(axis=0)))
    occurring_Ux, times_U = values_Nx, np.ones(count, np.int64)
    if count >= _TOGETHER_FROM:
        occurring_Ux, times_U = np.unique(values_Nx, axis=0, return_counts=True)
    drawn_R = np.concatenate([sums(drawn_RxU @ occurring_Ux) for drawn_RxU in _times_drawn(times_U, seed, draws)])
    return _interval(value, drawn_R, count)


def _interval(value: float, drawn_R: np.ndarray, count: int) -> Interval:
    # Observed values only: interpolating between ranks fails where one of them is infinite.
    low, high = np.quantile(drawn_R, [0.025, 0.975], method="linear" if np.isfinite(drawn_R).all() else "nearest")
    return Interval(float(value), float(low), float(high), count)


def _times_drawn(times_U: np.ndarray, seed: int, draws: int) -> Iterator[np.ndarray]:
    """How often each example is in each draw [R, U], in pieces; the pieces do not change what is drawn.

    `times_U`: how many alike there are of each.
    """
    rng = np.random.default_rng(seed)
    count, at_once = int(times_U.sum()), max(1, _CELLS_AT_ONCE // len(times_U))
    for first in range(0, draws, at_once):
        yield rng.multinomial(count, times_U / count, size=min(at_once, draws - first))


def _rows_drawn(count: int, seed: int, draws: int) -> Iterator[np.ndarray]:
    for times_drawn_RxN in _times_drawn(np.ones(count, np.int64), seed, draws):
        for times_drawn_N in times_drawn_RxN:
            yield np.repeat(np.arange(count), times_drawn_N)
