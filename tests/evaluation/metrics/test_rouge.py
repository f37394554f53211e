"""ROUGE-L against pycocoevalcap and by hand."""

import numpy as np
import pytest
from caption_examples import HAND_MADE, for_pycocoevalcap, random_captions, split

from cm3leon_jax.evaluation.metrics.rouge import longest_common_subsequence, rouge_l


@pytest.mark.parametrize("examples", [HAND_MADE, random_captions(0, 60), [("", [""])], [("a", ["", "a b"])]])
def test_equals_pycocoevalcap(examples):
    reference = pytest.importorskip("pycocoevalcap.rouge.rouge", reason="pycocoevalcap is not installed")
    value, values = reference.Rouge().compute_score(*for_pycocoevalcap(examples))
    score = rouge_l(*split(examples))
    np.testing.assert_allclose(score.value, value, rtol=0, atol=1e-12)
    np.testing.assert_allclose(score.examples, values, rtol=0, atol=1e-12)


def test_precision_and_recall_may_come_from_two_references():
    """Precision 1 with "a b c d", recall 1 with "a": as good as the caption itself."""
    assert rouge_l([["a", "b"]], [[["a", "b", "c", "d"], ["a"]]]).value == pytest.approx(1)


def test_longest_common_subsequence():
    assert longest_common_subsequence("abcbdab", "bdcaba") == 4
    assert longest_common_subsequence("", "abc") == 0
