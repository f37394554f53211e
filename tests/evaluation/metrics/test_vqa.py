"""VQA accuracy, OKVQA, VizWiz and answerability."""

import itertools
import random

import numpy as np
import pytest

from cm3leon_jax.evaluation.metrics.vqa import (
    average_precision,
    okvqa_accuracy,
    vizwiz_accuracy,
    vizwiz_answerability,
    vqa_accuracy,
)
from cm3leon_jax.evaluation.metrics.vqa_answers import normalize_answer
from cm3leon_jax.runtime.errors import UserError


def ten(**counts):
    answers = [answer for answer, count in counts.items() for _ in range(count)]
    assert len(answers) == 10
    return answers


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("red", ten(red=1, blue=9), 0.3),  # left out once: 0; else 1/3
        ("red", ten(red=2, blue=8), 0.6),  # twice 1/3, else 2/3
        ("red", ten(red=3, blue=7), 0.9),  # three times 2/3, else 1
        ("red", ten(red=4, blue=6), 1),
        ("green", ten(red=4, blue=6), 0),
        ("The Red.", ten(red=4, blue=6), 1),
        ("two", ["2"] * 4 + ["three"] * 6, 1),
        ("2", ["two"] * 4 + ["three"] * 6, 1),
        ("Yes", ten(yes=10), 0),  # all people agree: compared letter for letter
        (" yes\n", ten(yes=10), 1),
        ("yes", ten(yes=9, no=1), 1),
    ],
)
def test_by_hand(prediction, answers, expected):
    assert vqa_accuracy([prediction], [answers]).value == pytest.approx(expected)


def test_equals_the_mean_over_all_subsets():
    rng = random.Random(0)
    questions = [[rng.choice("abcd") for _ in range(10)] for _ in range(50)]
    predictions = [rng.choice("abcde") for _ in questions]
    expected = [
        np.mean([min(1, subset.count(prediction) / 3) for subset in itertools.combinations(answers, 9)])
        # "a" is an article: as an answer it is empty after normalisation, and still equal to itself
        for prediction, answers in zip(predictions, questions, strict=True)
    ]
    np.testing.assert_allclose(vqa_accuracy(predictions, questions).examples, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Dog", "dog"),
        ("none", "0"),
        ("Ten apples", "10 apples"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("couldntve", "couldntve"),  # two lost apostrophes are not in the table
        ("couldnt've", "couldn't've"),
        ("its", "its"),
        ("y'alld've", "y'all'd've"),
        ("somebody'd", "somebodyd"),
        ("red,blue", "red blue"),  # no space beside it: becomes one
        ("red, blue", "red blue"),
        ("t-shirt", "t shirt"),
        ("a t-shirt - red", "tshirt red"),  # one hyphen beside a space: all go
        ("1,000", "1000"),
        ("1,000 on/off", "1000 onoff"),  # a comma in a number takes every mark with it
        ("3.5", "3.5"),
        ("3.", "3"),
        ("U.S.", "us"),
        (".5", ".5"),
        ("what?!", "what"),
        ("dog's", "dog's"),
        ("50%", "50%"),
        ("  a\tcat\n", "cat"),
        ("", ""),
        ("." * 40, "." * 8),
    ],
)
def test_normalisation(answer, expected):
    assert normalize_answer(answer) == expected


def test_okvqa_repeats_five_answers():
    five = ["race", "race", "race", "motocross", "ride"]
    assert okvqa_accuracy(["race"], [five]).value == vqa_accuracy(["race"], [five * 2]).value == 1
    assert okvqa_accuracy(["ride"], [five]).value == okvqa_accuracy(["ride"], [five * 2]).value == pytest.approx(0.6)
    with pytest.raises(UserError, match="3 answers"):
        okvqa_accuracy(["ride"], [five[:3]])


def test_vizwiz_normalises_the_prediction_alone():
    assert vizwiz_accuracy(["The unanswerable."], [["unanswerable"] * 10]).value == 1
    assert vizwiz_accuracy(["blue"], [["Blue"] * 5 + ["blue"] * 5]).value == 1
    assert vizwiz_accuracy(["Blue"], [["Blue"] * 8 + ["blue"] * 2]).value == pytest.approx(0.6)


def test_answerability_by_hand():
    """Unanswerable: 0 and 2. Ranked by doubt: 0 (0.9), 1 (0.8), 2 (0.6), 3 (0.1): AP = (1 + 2/3) / 2."""
    scores = vizwiz_answerability([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.9])
    assert scores["average precision"].value == pytest.approx(5 / 6)
    assert scores["F1"].value == pytest.approx(2 * 2 / (3 + 2))
    for score in scores.values():
        interval = score.interval(draws=300)
        assert 0 <= interval.low < interval.value < interval.high <= 1


def test_average_precision_takes_equal_scores_as_one_step():
    assert average_precision(np.array([1, 0, 0, 1]), np.full(4, 0.5)) == pytest.approx(0.5)
    assert average_precision(np.array([0, 1, 1]), np.array([0.9, 0.5, 0.5])) == pytest.approx(2 / 3)
    assert average_precision(np.zeros(3), np.arange(3)) == 0


def test_average_precision_equals_its_definition():
    rng = np.random.default_rng(0)
    relevant, scores = rng.integers(0, 2, 60), rng.integers(0, 20, 60) / 20
    expected, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = scores >= threshold
        recall = relevant[found].sum() / relevant.sum()
        expected += (recall - recall_before) * relevant[found].mean()
        recall_before = recall
    assert average_precision(relevant, scores) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vqa_accuracy(["a"], []), "1 predictions, 0 answers"),
        (lambda: vqa_accuracy(["a"], ["a"]), "question 0 has no list of answers"),
        (lambda: vizwiz_answerability([0, 2], [0.1, 0.2]), "0 or 1"),
        (lambda: vizwiz_answerability([0, 1], [0.1, 2.0]), "not logits"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
