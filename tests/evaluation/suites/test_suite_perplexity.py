"""Perplexities of documents from losses of tokens."""

import types

import numpy as np
import pytest
from stand_ins import work_in
from tiny_generator import CONFIG, VOCABULARY

from cm3leon_jax.data.packing import ScoredExample, row_of, stack
from cm3leon_jax.documents import Document, assemble
from cm3leon_jax.evaluation.suites import perplexity as suite
from cm3leon_jax.evaluation.suites.perplexity import document_sums, perplexities


def document(text, image):
    ids = assemble([Document(np.full(text, 5), np.full(image, 1))], VOCABULARY)
    return ScoredExample(ids, np.arange(len(ids)) > 0)


def test_each_document_of_a_row_has_sums_of_its_own():
    batch = stack([row_of([document(2, 3), document(1, 0)], 16), row_of([document(4, 2)], 16)])
    losses = np.arange(32, dtype=np.float32).reshape(2, 16)
    first, second = document_sums(losses, batch, VOCABULARY)
    # Targets of the first: two of text, <break>, three of an image, <eos>; then of the second document.
    np.testing.assert_array_equal(first[0], [[0 + 1, 2], [3 + 4 + 5, 3], [sum(range(7)), 7]])
    np.testing.assert_array_equal(first[1], [[7, 1], [0, 0], [7 + 8 + 9, 3]])
    assert second.shape == (1, 3, 2) and second[0, 0].tolist() == [16 + 17 + 18 + 19, 4]


def test_perplexity_counts_tokens_and_leaves_out_what_a_document_lacks():
    sums = np.array([[[2.0, 2], [9.0, 3], [12.0, 6]], [[6.0, 2], [0.0, 0], [6.0, 3]]])
    found = perplexities(sums)
    assert found["perplexity, text"].value == pytest.approx(np.exp(8 / 4))
    assert (
        found["perplexity, images"].value == pytest.approx(np.exp(3)) and len(found["perplexity, images"].examples) == 1
    )
    assert found["perplexity, all tokens"].value == pytest.approx(np.exp(18 / 9))
    interval = found["perplexity, text"].interval()
    assert interval.low == pytest.approx(np.exp(1)) and interval.high == pytest.approx(np.exp(3))


@pytest.mark.parametrize(
    ("settings", "limit"), [({}, 1024), ({"documents": 0}, None), ({"examples": 5, "documents": 7}, 5)]
)
def test_so_many_documents_are_measured(settings, limit, tmp_path, monkeypatch):
    class Seen(Exception):
        pass

    def batches(data, split, batching, *, retrieved):
        raise Seen(batching.limit)

    monkeypatch.setattr(suite, "evaluation_batches", batches)
    with pytest.raises(Seen, match=f"^{limit}$"):
        suite._measured(
            work_in(tmp_path, **settings), types.SimpleNamespace(vocabulary=VOCABULARY), 0, CONFIG, lambda row: None
        )
