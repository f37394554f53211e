"""Captions scored from their texts."""

import pytest

from cm3leon_jax.evaluation.metrics.captions import caption_scores
from cm3leon_jax.runtime.errors import UserError

CAPTIONS = ["A man's dog runs.", "Two cats, sleeping!", "a red ball"]
REFERENCES = [["a man 's dog runs"], ["two cats sleeping", "cats"], ["A blue ball.", "the ball"]]


def test_punctuation_and_case_do_not_count():
    scores = caption_scores(CAPTIONS[:2], REFERENCES[:2])
    assert list(scores) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
    assert scores["BLEU-1"].value == pytest.approx(1)
    assert scores["ROUGE-L"].value == pytest.approx(1)


def test_every_score_has_an_interval():
    for score in caption_scores(CAPTIONS, REFERENCES).values():
        interval = score.interval(draws=100)
        assert interval.examples == 3 and interval.low <= interval.value <= interval.high


def test_a_corpus_weighs_what_is_rare():
    alone, within = (caption_scores(CAPTIONS[:1], REFERENCES[:1], corpus=corpus) for corpus in (None, REFERENCES))
    assert alone["CIDEr-D"].value == 0
    assert within["CIDEr-D"].value == pytest.approx(10)


def test_captions_without_references_are_refused():
    with pytest.raises(UserError, match="1 captions, 0 references"):
        caption_scores(["a"], [])
    with pytest.raises(UserError, match="give each example one or more"):
        caption_scores(["a"], [[]])
