"""BLEU against pycocoevalcap and by hand."""

import numpy as np
import pytest
from caption_examples import HAND_MADE, for_pycocoevalcap, random_captions, split

from cm3leon_jax.evaluation.metrics.bleu import bleu
from cm3leon_jax.runtime.errors import UserError


@pytest.mark.parametrize("examples", [HAND_MADE, random_captions(0, 60), HAND_MADE[1:2], HAND_MADE[:1]])
def test_equals_pycocoevalcap(examples):
    reference = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is not installed")
    expected, of_captions = reference.Bleu(4).compute_score(*for_pycocoevalcap(examples), verbose=0)
    scores = bleu(*split(examples))
    assert list(scores) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
    for score, value, values in zip(scores.values(), expected, of_captions, strict=True):
        np.testing.assert_allclose(score.value, value, rtol=0, atol=1e-9)
        np.testing.assert_allclose(score.of_sums(score.examples), values, rtol=0, atol=1e-9)


def test_by_hand():
    """Two of three tokens match ("the" is clipped at one), against the shorter of two equally close references."""
    scores = bleu([["the", "the", "cat"]], [[["the", "cat"], ["a", "cat", "is", "there"]]])
    assert scores["BLEU-1"].value == pytest.approx(2 / 3)
    assert scores["BLEU-2"].value == pytest.approx(np.sqrt(2 / 3 * 1 / 2))


def test_a_short_corpus_is_penalised():
    assert bleu([["a"]], [[["a", "b", "c"]]])["BLEU-1"].value == pytest.approx(np.exp(1 - 3))


def test_the_interval_is_of_the_corpus_and_not_of_its_captions():
    score = bleu(*split(random_captions(1, 200)))["BLEU-4"]
    interval = score.interval(seed=3, draws=500)
    assert interval == score.interval(seed=3, draws=500) != score.interval(seed=4, draws=500)
    assert interval.value == score.value and interval.low < score.value < interval.high
    assert interval.high - interval.low < 0.5 * score.value


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ([["a"]], [], "1 candidates, 0 references"),
        ([["a"]], [[]], "example 0 has no list of references"),
        (["a cat"], [[["a", "cat"]]], "not split into tokens"),
        ([["a"]], ["cat"], "no list of references"),
    ],
)
def test_what_cannot_be_compared_is_refused(candidates, references, message):
    with pytest.raises(UserError, match=message):
        bleu(candidates, references)


def test_no_captions_have_no_value():
    assert bleu([], [])["BLEU-4"].value is None
    assert bleu([], [])["BLEU-4"].interval().low is None
