"""Recall in both directions for known embeddings, and the bank's against exact search."""

import numpy as np
import pytest
from stand_ins import Given, pairs_folder, work_in

from cm3leon_jax.evaluation.metrics.retrieval import similarity_ranks
from cm3leon_jax.evaluation.suites import retrieval as suite
from cm3leon_jax.runtime.errors import UserError


class Encoder:
    """A text is where its number stands on a circle, a picture where its brightness does, 10 for each number; the
    pictures 1 and 2 are taken for each other's."""

    batch_size, fingerprint = 3, "f"

    class config:
        image_resolution = 8

    def embed_texts(self, texts):
        return self._circle([int(text.split()[1]) for text in texts])

    def embed_images(self, images):
        places = np.round(images[:, 0, 0, 0] / 10)
        return self._circle([{1: 2, 2: 1}.get(place, place) for place in places])

    def _circle(self, places):
        angles = np.array(places) / 40 * 2 * np.pi
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_figures_for_known_embeddings(tmp_path):
    source = pairs_folder(tmp_path / "pairs", [[f"x {number}", f"y {number}"] for number in range(12)])
    work = work_in(tmp_path, models=Given(retriever=Encoder()), retrieval=source, split="train", shown=1)
    pictures = {each.picture for each in work.open("retrieval").examples}
    assert {"1.png", "2.png"} <= pictures  # held out by name, not by chance of this test
    result = suite.retrieval(work)
    found = {(each.data, each.name): each.value for each in result.figures}
    share = 1 - 2 / len(pictures)
    assert found["image to text", "R@1"] == found["text to image", "R@1"] == pytest.approx(share)
    assert found["text to image", "R@5"] == 1 and found["image to text", "median rank"] == 1
    # Of the two that are mistaken for each other, the partner's two texts come first.
    assert found["image to text", "MRR"] == pytest.approx(share + 2 / len(pictures) / 3)
    assert ("memory bank", "R@10 of exact search") not in found


def test_a_picture_that_cannot_be_decoded_is_left_out(tmp_path):
    source = pairs_folder(tmp_path / "pairs", [[f"x {number}", f"y {number}"] for number in range(12)])
    (tmp_path / "pairs" / "1.png").write_bytes(b"no picture")
    settings = {"models": Given(retriever=Encoder()), "retrieval": source, "split": "train"}
    with pytest.raises(UserError, match=r"1 of \d+ pictures of folder:.* cannot be used \(the first: 1.png: "):
        suite.retrieval(work_in(tmp_path, **settings))
    work = work_in(tmp_path, most_left_out=0.5, **settings)
    result, count = suite.retrieval(work), len(work.open("retrieval").examples)
    assert result.counts["retrieval"].left_out == {"the picture cannot be decoded": 2}
    assert result.counts["retrieval"].scored == count - 2 and len(result.shown) == count / 2 - 1
    assert "x 1" not in {each.title for each in result.shown}


def test_ranks_in_blocks_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(13, 4)), rng.normal(size=(7, 4))
    belongs_q, belongs_n = np.arange(13) % 7, np.arange(7)
    expected = similarity_ranks(queries @ items.T, belongs_q[:, None] == belongs_n)
    monkeypatch.setattr(suite, "_CELLS", 20)
    np.testing.assert_array_equal(suite.ranks_of(queries, items, belongs_q, belongs_n), expected)


def test_the_bank_is_compared_with_exact_search_query_by_query():
    class Forgetful:
        """Does not find the last of the ten nearest, for every other query."""

        count = 30

        def __init__(self, vectors):
            self._vectors = vectors

        def search(self, queries, k):
            scores = -np.sort(-(queries @ self._vectors.T), axis=1)[:, :k]
            scores[::2, -1] = -np.inf
            return np.zeros(scores.shape, np.int32), scores

        def blocks(self):
            yield self._vectors[:20]
            yield self._vectors[20:]

    rng = np.random.default_rng(0)
    score = suite.bank_recall(Forgetful(rng.normal(size=(30, 4))), rng.normal(size=(4, 4)))
    np.testing.assert_allclose(score.examples, [0.9, 1.0, 0.9, 1.0])
