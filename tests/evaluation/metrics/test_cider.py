"""CIDEr-D against pycocoevalcap, and with another corpus."""

import numpy as np
import pytest
from caption_examples import HAND_MADE, for_pycocoevalcap, random_captions, split

from cm3leon_jax.evaluation.metrics.cider import cider_d
from cm3leon_jax.runtime.errors import UserError


def pycocoevalcap_cider(examples):
    reference = pytest.importorskip("pycocoevalcap.cider.cider", reason="pycocoevalcap is not installed")
    return reference.Cider().compute_score(*for_pycocoevalcap(examples))


@pytest.mark.parametrize("examples", [HAND_MADE, random_captions(0, 60), HAND_MADE[:1], HAND_MADE[:2]])
def test_equals_pycocoevalcap(examples):
    value, values = pycocoevalcap_cider(examples)
    score = cider_d(*split(examples))
    np.testing.assert_allclose(score.value, value, rtol=0, atol=1e-9)
    np.testing.assert_allclose(score.examples, values, rtol=0, atol=1e-9)


def test_frequencies_of_a_larger_corpus():
    """Some captions, weighed with all the references, score as they do among all of them."""
    examples = random_captions(5, 40)
    _, values = pycocoevalcap_cider(examples)
    candidates, references = split(examples)
    some = cider_d(candidates[:7], references[:7], corpus=references)
    np.testing.assert_allclose(some.examples, values[:7], rtol=0, atol=1e-9)


def test_a_perfect_caption_is_ten():
    captions = [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    assert cider_d(captions, [[caption] for caption in captions]).value == pytest.approx(10)


def test_an_empty_corpus_is_refused():
    with pytest.raises(UserError, match="corpus for CIDEr-D is empty"):
        cider_d([["a"]], [[["a"]]], corpus=[])
