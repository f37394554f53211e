"""Retrieval in both directions, from similarities and from lists."""

import numpy as np
import pytest

from cm3leon_jax.evaluation.metrics.retrieval import list_ranks, rank_metrics, retrieval, similarity_ranks
from cm3leon_jax.runtime.errors import UserError


def values(scores):
    return {name: score.value for name, score in scores.items()}


def test_pairs_by_hand():
    similarity = [[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.7, 0.6, 0.3]]
    scores = retrieval(similarity, ks=(1, 2))
    assert values(scores["image to text"]) == {
        "R@1": 1 / 3,
        "R@2": 2 / 3,
        "MRR": (1 + 1 / 2 + 1 / 3) / 3,
        "median rank": 2,
    }
    assert values(scores["text to image"]) == {"R@1": 2 / 3, "R@2": 1, "MRR": (1 + 1 / 2 + 1) / 3, "median rank": 1}


def test_the_first_of_several_texts_counts():
    relevant = np.repeat(np.eye(2, dtype=bool), 2, axis=1)
    similarity = [[0.2, 0.9, 0.5, 0.1], [0.9, 0.8, 0.1, 0.2]]
    scores = retrieval(similarity, relevant)
    assert scores["image to text"]["MRR"].value == (1 + 1 / 3) / 2
    assert len(scores["text to image"]["MRR"].examples) == 4


def test_ranks_equal_a_sorted_list():
    rng = np.random.default_rng(0)
    similarity, relevant = rng.random((30, 50)), rng.random((30, 50)) < 0.1
    relevant[:, 3] = True
    lists = np.argsort(-similarity, axis=1)
    wanted = [set(np.flatnonzero(row)) for row in relevant]
    np.testing.assert_array_equal(similarity_ranks(similarity, relevant), list_ranks(lists.tolist(), wanted))


def test_equal_similarities_gain_nothing():
    assert values(retrieval(np.ones((5, 5)))["image to text"])["R@1"] == 0


def test_what_is_not_in_a_list_was_not_found():
    scores = rank_metrics(list_ranks([["a", "b"], ["c"], []], [{"b"}, {"x"}, {"y"}]))
    assert values(scores) == {"R@1": 0, "R@5": 1 / 3, "R@10": 1 / 3, "MRR": 0.5 / 3, "median rank": np.inf}
    assert scores["median rank"].interval(draws=100).high == np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: retrieval(np.ones((2, 4))), "2 images and 4 texts are no pairs"),
        (lambda: retrieval(np.ones((2, 2)), [[1, 1], [0, 0]]), "query 1 has no relevant item"),
        (lambda: retrieval(np.ones((2, 2)), [[1, 1]]), "needs the shape"),
        (lambda: list_ranks([[1]], []), "1 ranked, 0 relevant"),
    ],
)
def test_what_does_not_belong_together_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
