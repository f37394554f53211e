"""Scores and their intervals."""

import numpy as np
import pytest

from cm3leon_jax.evaluation.metrics.score import Score, mean_score


def test_a_mean():
    score = mean_score([0, 1, 1, 1])
    assert score.value == 0.75
    interval = score.interval()
    assert (interval.value, interval.examples) == (0.75, 4)
    assert interval.low < 0.75 <= interval.high


def test_a_median_is_of_the_drawn_examples():
    score = Score(np.array([1.0, 2.0, np.inf]), of_examples=lambda values: float(np.median(values)))
    interval = score.interval(draws=200)
    assert (interval.value, interval.low, interval.high) == (2, 1, np.inf)


def test_a_function_of_sums_and_the_same_of_examples_draw_alike():
    values = np.random.default_rng(0).random((50, 2))
    sums = Score(values, of_sums=lambda sums: sums[..., 0] / sums[..., 1]).interval(draws=300)
    rows = Score(values, of_examples=lambda rows: rows[:, 0].sum() / rows[:, 1].sum()).interval(draws=300)
    assert (sums.low, sums.high) == (pytest.approx(rows.low), pytest.approx(rows.high))


def test_the_interval_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(size=900)
    interval = mean_score(values).interval(draws=4000)
    assert abs(interval.high - interval.low - 2 * 1.96 / 30) < 0.1 * 2 * 1.96 / 30


def test_nothing_has_no_value():
    assert mean_score([]).value is None
    assert mean_score([]).interval().to_dict() == {"value": None, "low": None, "high": None, "examples": 0}


def test_a_mean_of_what_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        mean_score([1, np.nan]).interval()
