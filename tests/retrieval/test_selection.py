"""The selection rules against a slow plain reference, and the search that goes deeper until there are enough."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.retrieval.neighbours import explained_neighbours_of, neighbours_of
from cm3leon_jax.retrieval.selection import Candidates, SelectionConfig, select
from cm3leon_jax.retrieval.verdicts import Reason
from cm3leon_jax.runtime.errors import UserError

DIM = 3


class ExactBank:
    """What `neighbours_of` uses of a memory bank, by plain NumPy. Counts what is asked of it."""

    def __init__(self, embeddings, ids):
        self.embeddings, self.ids, self.count, self.searched = embeddings, ids, len(ids), []
        self.most_held = 0

    def search(self, queries, k):
        self.searched.append((len(queries), k))
        # Rounded, so that equal documents tie whatever the shape of the product.
        scores = np.round(queries.astype(np.float64) @ self.embeddings.T, 6).astype(np.float32)
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return self.ids[rows].astype(np.int32), np.take_along_axis(scores, rows, axis=1)

    def embeddings_of(self, ids):
        self.most_held = max(self.most_held, np.size(ids))
        row_of = {index: row for row, index in enumerate(self.ids)}
        zeros = np.zeros(self.embeddings.shape[1], np.float32)
        return np.array([[self.embeddings[row_of[i]] if i >= 0 else zeros for i in row] for row in ids])


def reference(bank, image_query, text_query, config, query_id, query_document, complete):
    """The rules read aloud, for one query: -> (ids by image, ids by text)."""
    ranked = []
    for query in (image_query, text_query):
        ids, scores = bank.search(query[None], bank.count if query.any() else 0)
        ranked.append(list(zip(ids[0], scores[0], bank.embeddings_of(ids)[0], strict=True)))
    taken: tuple[list, list] = ([], [])
    taken_embeddings: list = []
    for turn in range(max(config.by_image, config.by_text)):
        for which, wanted in ((0, config.by_image), (1, config.by_text)):
            if turn >= wanted:
                continue
            for index, score, embedding in ranked[which]:
                if index == query_id or index not in complete or index in taken[0] + taken[1]:
                    continue
                if embedding @ query_document > min(config.threshold, config.duplicate - 1e-7):
                    continue
                if which and not image_query.any() and score > (config.text_threshold or 2):
                    continue
                if any(embedding @ other > config.threshold for other in taken_embeddings):
                    continue
                taken[which].append(index)
                taken_embeddings.append(embedding)
                break
    return taken


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@st.composite
def problems(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 40))
    embeddings = unit(random.normal(size=(count, DIM)))
    # Exact copies of some documents, so that duplicates happen.
    embeddings = embeddings[np.where(random.random(count) < 0.2, random.integers(0, count, count), np.arange(count))]
    ids = random.permutation(100)[:count]
    queries = draw(st.integers(1, 6))
    own = random.integers(0, count, queries)
    spread = draw(st.sampled_from([0.0, 0.3, 3.0]))
    image, text = (unit(embeddings[own] + spread * random.normal(size=(queries, DIM))) for _ in range(2))
    image[random.random(queries) < 0.15] = 0  # this query has no image
    text[random.random(queries) < 0.15] = 0
    config = SelectionConfig(
        by_image=draw(st.integers(1, 3)),
        by_text=draw(st.integers(0, 3)),
        threshold=draw(st.sampled_from([-0.5, 0.5, 0.9, 0.999])),
        text_threshold=draw(st.sampled_from([None, 0.5, 0.9])),
        candidates=draw(st.integers(1, 8)),
        max_candidates=64,
    )
    complete = ids[random.random(count) < 0.8]
    return ExactBank(embeddings, ids), image, text, config, ids[own], embeddings[own], complete


@settings(max_examples=300, deadline=None)
@given(problems())
def test_equals_the_reference(problem):
    bank, image, text, config, query_ids, documents, complete = problem
    found = neighbours_of(
        bank,
        image_queries=image,
        text_queries=text,
        config=config,
        query_ids=query_ids,
        query_documents=documents,
        complete_ids=complete,
        chunk=4,
    )
    assert found.by_image.shape == (len(image), config.by_image) and found.by_image.dtype == np.int32
    assert found.by_text.shape == found.by_text_scores.shape == (len(image), config.by_text)
    for row in range(len(image)):
        expected = reference(bank, image[row], text[row], config, query_ids[row], documents[row], complete)
        for ids, scores, query, wanted in (
            (found.by_image[row], found.by_image_scores[row], image[row], expected[0]),
            (found.by_text[row], found.by_text_scores[row], text[row], expected[1]),
        ):
            assert ids[: len(wanted)].tolist() == wanted
            assert (ids[len(wanted) :] == -1).all() and np.isneginf(scores[len(wanted) :]).all()
            if wanted:
                np.testing.assert_allclose(scores[: len(wanted)], bank.embeddings_of([wanted])[0] @ query, atol=2e-6)
        assert found.counts[row] == len(expected[0]) + len(expected[1])
        assert found.short[row] == (found.counts[row] < config.by_image + config.by_text)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_what_is_chosen_obeys_the_rules(problem):
    bank, image, text, config, query_ids, _, _ = problem
    found = neighbours_of(bank, image_queries=image, text_queries=text, config=config, query_ids=query_ids)
    for row in range(len(image)):
        chosen = np.concatenate([found.by_image[row], found.by_text[row]])
        chosen = chosen[chosen >= 0]
        assert len(set(chosen)) == len(chosen) and query_ids[row] not in chosen
        embeddings = bank.embeddings_of([chosen])[0].reshape(-1, DIM)
        between = (embeddings @ embeddings.T)[~np.eye(len(chosen), dtype=bool)]
        assert not len(between) or between.max() <= config.threshold
    # Without the query's document there is nothing to compare an image with; a text has a threshold of its own.
    assert config.text_threshold is None or not (found.by_text_scores > config.text_threshold).any()


def reasons_of_one_list(found, which, problem, row):
    """Checks each verdict about one list of one query against the rules, read aloud."""
    bank, _, _, config, query_ids, documents, complete = problem
    candidates, verdicts = found.candidates[which], found.verdicts[which]
    taken = np.concatenate([found.neighbours.by_image[0], found.neighbours.by_text[0]])
    wanted = (config.by_image, config.by_text)[which]
    enough = 0
    for place, (index, reason, other) in enumerate(
        zip(candidates.ids[0], verdicts.reasons[0], verdicts.others[0], strict=True)
    ):
        embedding, alone = candidates.embeddings[0, place], (found.candidates[0].ids == -1).all()
        if enough == wanted:
            assert reason == (Reason.ENOUGH if index >= 0 else Reason.NOTHING)
        elif reason == Reason.TAKEN:
            enough += 1
        elif reason == Reason.TOO_SIMILAR_TO_TAKEN:
            assert other in taken and other != index
            similarity = embedding @ bank.embeddings_of([[other]])[0, 0]
            assert similarity > config.threshold
            assert abs(similarity - verdicts.similarities[0, place]) < 1e-5
        else:
            holds = {
                Reason.NOTHING: index == -1,
                Reason.ITSELF: index == query_ids[row],
                Reason.LACKS_MODALITY: index not in complete,
                Reason.SAME_EMBEDDING: embedding @ documents[row] >= config.duplicate,
                Reason.TOO_SIMILAR_TO_QUERY: embedding @ documents[row] > config.threshold
                or (which and alone and candidates.scores[0, place] > (config.text_threshold or 2)),
                Reason.TAKEN_ALREADY: index in (found.neighbours.by_text, found.neighbours.by_image)[which],
            }
            assert holds[reason]
    return candidates.ids[0][verdicts.reasons[0] == Reason.TAKEN].tolist()


@settings(max_examples=200, deadline=None)
@given(problems())
def test_what_is_explained_as_taken_is_what_is_selected_and_every_reason_holds(problem):
    bank, image, text, config, query_ids, documents, complete = problem
    options = {
        "image_queries": image,
        "text_queries": text,
        "config": config,
        "query_ids": query_ids,
        "query_documents": documents,
        "complete_ids": complete,
    }
    selected = neighbours_of(bank, **options)
    for row, found in enumerate(explained_neighbours_of(bank, **options)):
        for which, ids in enumerate((selected.by_image[row], selected.by_text[row])):
            assert reasons_of_one_list(found, which, problem, row) == ids[ids >= 0].tolist()
        for field in dataclasses.fields(selected):
            np.testing.assert_array_equal(getattr(found.neighbours, field.name)[0], getattr(selected, field.name)[row])


def ring(count):
    """Unit vectors at even angles from 0 to 180 degrees."""
    angles = np.linspace(0, np.pi, count)
    return np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1).astype(np.float32)


def test_searches_deeper_only_for_queries_that_lack_documents():
    bank = ExactBank(ring(1000), np.arange(1000))
    close, far = bank.embeddings[:1], unit(np.array([[0.2, 0.1, 1.0]]))
    config = SelectionConfig(by_image=0, by_text=1, text_threshold=0.9, candidates=4, max_candidates=400)
    found = neighbours_of(bank, text_queries=np.concatenate([close, far]), config=config)
    assert found.counts.tolist() == [1, 1] and not found.short.any()
    first = np.flatnonzero(bank.embeddings @ close[0] <= 0.9)[0]
    assert found.by_text[0, 0] == first
    assert bank.searched == [(2, 4), (1, 8), (1, 16), (1, 32), (1, 64), (1, 128), (1, 256)]
    limited = neighbours_of(bank, text_queries=close, config=dataclasses.replace(config, max_candidates=100))
    assert limited.counts.tolist() == [0] and limited.short.all()  # fewer, and it says so


def test_a_bank_is_searched_once_for_each_depth_and_the_chunk_does_not_matter():
    bank = ExactBank(ring(1000), np.arange(1000))
    image = bank.embeddings[::20]
    text = image[::-1] * (np.arange(50) % 7 > 0)[:, None]
    config = SelectionConfig(threshold=0.9, candidates=32, max_candidates=256)
    options = {"image_queries": image, "text_queries": text, "query_documents": image, "config": config}
    found = [neighbours_of(bank, chunk=8, **options)]
    assert bank.most_held == 8 * config.candidates
    found.append(neighbours_of(bank, chunk=99, **options))
    for field in dataclasses.fields(found[0]):
        np.testing.assert_array_equal(*(getattr(each, field.name) for each in found))
    half = len(bank.searched) // 2
    assert bank.searched[:half] == bank.searched[half:] and bank.searched[0] == (50 + 42, 32)
    assert [depth for _, depth in bank.searched[:half]] == [32, 64, 128, 256]


def test_by_text_alone():
    bank = ExactBank(ring(7), np.arange(7))
    config = SelectionConfig(by_image=0, by_text=2, threshold=0.9, text_threshold=0.9)
    found = neighbours_of(bank, text_queries=bank.embeddings[:1], config=config)
    assert found.by_text.tolist() == [[1, 2]] and found.by_image.shape == (1, 0)
    assert found.struck.tolist() == [1] and not found.lost.any()
    both = neighbours_of(bank, text_queries=bank.embeddings[:1], config=dataclasses.replace(config, by_image=2))
    assert both.by_text.tolist() == [[1, 2]] and both.by_image.tolist() == [[-1, -1]] and both.short.all()


# CLIP ViT-B/32: a text and its image have a cosine of about 0.3, two unrelated texts or images 0.5.
WIDTH, TEXT_IMAGE, UNRELATED = 512, 0.3, 0.5


def clip_like(random, count):
    """Texts and images [count, WIDTH] of documents with CLIP's cosines: between the modalities there is a gap."""
    gap, shared = unit(random.normal(size=(2, WIDTH)))
    own = unit(random.normal(size=(count, WIDTH)))
    sides = []
    for side in (1, -1):
        rest = unit(random.normal(size=(count, WIDTH)))
        # Cosines: own² between the parts of a document less gap², shared² + gap² between two of one modality.
        sides.append(unit(np.sqrt(0.3) * own + np.sqrt(0.25) * (shared + side * gap * 0.99) + np.sqrt(0.2) * rest))
    return sides


def documents_of(text, image):
    return unit(text + image)


def changed(random, vectors, cosine):
    """The same with noise: each has this cosine with what it was."""
    noise = random.normal(size=vectors.shape)
    noise -= np.sum(noise * vectors, axis=1, keepdims=True) * vectors
    return (cosine * vectors + np.sqrt(1 - cosine**2) * unit(noise)).astype(np.float32)


def test_the_rule_fires_for_near_copies_and_for_nothing_else_at_the_geometry_of_clip():
    """A bank of others, near copies of the queries (document to document 0.957) and relatives (0.8). Compared with a
    query's text or image alone, as scores are, neither is over 0.9."""
    random = np.random.default_rng(0)
    text, image = clip_like(random, 600)
    queries = slice(0, 200)
    assert np.mean(np.sum(text * image, axis=1)) == pytest.approx(TEXT_IMAGE, abs=0.02)
    assert np.mean((text @ text.T)[~np.eye(600, dtype=bool)]) == pytest.approx(UNRELATED, abs=0.02)
    own = documents_of(text[queries], image[queries])
    near, relative = changed(random, own, 0.957), changed(random, own, 0.8)
    bank = ExactBank(np.concatenate([near, relative, documents_of(text[200:], image[200:])]), np.arange(800))
    scores = np.sum(near * image[queries], axis=1)
    assert 0.7 < scores.mean() < 0.85  # never over 0.9
    config = SelectionConfig(threshold=0.9)
    found = neighbours_of(
        bank, image_queries=image[queries], text_queries=text[queries], config=config, query_documents=own
    )
    taken = np.concatenate([found.by_image, found.by_text], axis=1)
    assert not (taken == np.arange(200)[:, None]).any()  # no near copy
    assert (taken == np.arange(200, 400)[:, None]).any(axis=1).mean() > 0.95  # practically all relatives
    assert found.struck.min() >= 1 and not found.lost.any()
    alone = neighbours_of(bank, text_queries=text[queries], config=SelectionConfig(by_image=0, text_threshold=0.74))
    assert not (alone.by_text == np.arange(200)[:, None]).any()
    assert (alone.by_text == np.arange(200, 400)[:, None]).any(axis=1).mean() > 0.9


def test_documents_whose_nearest_are_all_near_copies_are_counted():
    bank = ExactBank(ring(7)[[0, 0, 0, 0, 3, 4, 5]], np.arange(7))
    query = bank.embeddings[:1]
    options = {"image_queries": query, "text_queries": query, "query_documents": query, "query_ids": np.zeros(1, int)}
    found = neighbours_of(bank, **options, config=SelectionConfig(threshold=0.9, duplicate=2.0))
    assert found.lost.tolist() == [True] and found.struck.tolist() == [6]  # three in each of two lists
    assert not neighbours_of(bank, **options, config=SelectionConfig(duplicate=2.0)).lost.any()


def test_lists_are_taken_in_turn():
    embeddings = ring(7)[None].repeat(1, axis=0)
    candidates = Candidates(np.arange(7)[None], np.full((1, 7), 0.5, np.float32), embeddings)
    found = select(candidates, candidates, SelectionConfig())
    assert (found.by_image.tolist(), found.by_text.tolist()) == ([[0, 2]], [[1, 3]])


def test_bad_input():
    for wrong in ({"by_image": 0, "by_text": 0}, {"by_text": -1}, {"candidates": 0}, {"candidates": 2000}):
        with pytest.raises(UserError):
            SelectionConfig(**wrong)
    with pytest.raises(UserError, match="queries"):
        neighbours_of(ExactBank(ring(3), np.arange(3)))
