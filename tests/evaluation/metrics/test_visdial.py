"""Visual Dialog's metrics, by hand and against a plain loop."""

import math

import numpy as np
import pytest

from cm3leon_jax.evaluation.metrics.visdial import visdial_ndcg, visdial_sparse
from cm3leon_jax.runtime.errors import UserError


def test_sparse_by_hand():
    scores = [[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]]
    result = {name: score.value for name, score in visdial_sparse(scores, [2, 0]).items()}
    assert result == {"MRR": 0.75, "R@1": 0.5, "R@5": 1, "R@10": 1, "mean rank": 1.5}


def test_equal_scores_gain_nothing():
    assert visdial_sparse(np.zeros((3, 100)), [0, 50, 99])["mean rank"].value == 100


def test_ndcg_by_hand():
    """Two options are relevant; the ranking is 2, 0, 1, so that only the first of its two first ones is."""
    score = visdial_ndcg([[0.5, 0.1, 0.9]], [[0.0, 1.0, 0.5]])
    assert score.value == pytest.approx(0.5 / (1 + 0.5 / math.log2(3)))


def test_ndcg_equals_a_loop():
    rng = np.random.default_rng(0)
    scores, relevance = rng.random((20, 100)), rng.integers(0, 5, (20, 100)) / 4 * (rng.random((20, 100)) < 0.1)
    relevance[:, 7] = 0.5
    expected = []
    for row, relevant in zip(scores, relevance, strict=True):
        first = int((relevant != 0).sum())
        ranked = sorted(range(100), key=lambda option, row=row: -row[option])[:first]
        gain = sum(relevant[option] / math.log2(place + 2) for place, option in enumerate(ranked))
        best = sum(value / math.log2(place + 2) for place, value in enumerate(sorted(relevant, reverse=True)[:first]))
        expected.append(gain / best)
    score = visdial_ndcg(scores, relevance)
    np.testing.assert_allclose(score.examples, expected, atol=1e-12)
    assert score.interval(draws=200).low < score.value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: visdial_sparse([[0.1, np.nan]], [0]), "NaN"),
        (lambda: visdial_sparse([[0.1, 0.2]], [2]), "indices from 0 to 1"),
        (lambda: visdial_ndcg([[0.1, 0.2]], [[0, 0]]), "round 0 has no relevant option"),
        (lambda: visdial_ndcg([[0.1, 0.2]], [[1]]), "one for each score"),
    ],
)
def test_what_cannot_be_ranked_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
