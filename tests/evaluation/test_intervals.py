"""Shares and their bootstrap intervals."""

import numpy as np
import pytest

from cm3leon_jax.evaluation import intervals
from cm3leon_jax.evaluation.intervals import share


def test_a_share_is_the_ratio_of_sums():
    result = share([1, 3, 0], [2, 4, 0])
    assert (result.value, result.hits, result.total, result.examples) == (4 / 6, 4, 6, 2)


def test_the_interval_is_deterministic_and_holds_the_value():
    rng = np.random.default_rng(0)
    totals = rng.integers(1, 8, 200)
    hits = rng.binomial(totals, 0.8)
    first, again, other = share(hits, totals), share(hits, totals), share(hits, totals, seed=1)
    assert first == again
    assert first.low < first.value < first.high
    assert (first.low, first.high) != (other.low, other.high)


def test_the_interval_is_as_wide_as_theory_says():
    totals = np.ones(400, int)
    hits = np.arange(400) % 2
    result = share(hits, totals, draws=4000)
    expected = 2 * 1.96 * 0.5 / np.sqrt(400)
    assert abs((result.high - result.low) - expected) < 0.1 * expected


def test_facts_of_one_example_are_drawn_together():
    """Ten copies of a fact in one example say no more than one."""
    rng = np.random.default_rng(0)
    hits = rng.integers(0, 2, 100)
    one, ten = share(hits, np.ones(100, int)), share(10 * hits, 10 * np.ones(100, int))
    assert (one.low, one.high) == (ten.low, ten.high)


def test_nothing_to_count_is_none():
    assert share([], []).value is None
    assert share([0, 0], [0, 0]).to_dict()["low"] is None


@pytest.mark.parametrize(("hits", "totals"), [([3], [2]), ([-1], [2]), ([1], [1, 2])])
def test_impossible_counts_are_refused(hits, totals):
    with pytest.raises(ValueError, match="hits"):
        share(hits, totals)


def test_drawing_in_pieces_draws_the_same(monkeypatch):
    values = np.random.default_rng(0).random(30)
    whole = intervals.bootstrap(values, draws=100)
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 210)
    assert intervals.bootstrap(values, draws=100) == whole


def test_drawing_what_is_alike_together_gives_the_same_distribution(monkeypatch):
    values = np.random.default_rng(0).integers(0, 4, (500, 2)) + 1
    options = {"of_sums": lambda sums: sums[..., 0] / sums[..., 1], "draws": 20_000}
    apart = intervals.bootstrap(values, **options)
    monkeypatch.setattr(intervals, "_TOGETHER_FROM", 500)
    together = intervals.bootstrap(values, **options)
    assert together.value == apart.value
    width = apart.high - apart.low
    assert abs(together.low - apart.low) < 0.02 * width and abs(together.high - apart.high) < 0.02 * width
