"""A memory bank of one shard: recall of each kind of index, exact ids and scores, folders that can be moved, errors."""

import dataclasses
import json

import numpy as np
import pytest

from cm3leon_jax.retrieval.memory_bank import KINDS, MemoryBank, MemoryBankConfig, measure_recall
from cm3leon_jax.retrieval.memory_bank.index import Index
from cm3leon_jax.retrieval.memory_bank.recall import share_found, worst_of_best
from cm3leon_jax.runtime.errors import UserError

COUNT, DIM = 2000, 31
IDS = (7 * np.arange(COUNT) + 3)[np.random.default_rng(5).permutation(COUNT)]


def clustered(count: int, seed: int) -> np.ndarray:
    """Unit vectors around 50 shared centres, as embeddings of documents lie."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(50, DIM))
    vectors = centres[random.integers(0, 50, count)] + 0.3 * random.normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(COUNT, 0)


def distinct(queries: np.ndarray) -> np.ndarray:
    """Those whose 10th and 11th nearest differ in score by more than recall overlooks: here it can be counted by id."""
    scores = np.sort(queries @ VECTORS.T, axis=1)
    return queries[scores[:, -10] - scores[:, -11] > 2e-5]


QUERIES = distinct(clustered(70, 1))[:64]


def kind_of(bank: MemoryBank) -> str:
    (live,) = bank.shards
    return live.shard.kind


@pytest.fixture(scope="module", params=KINDS)
def bank(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("bank") / request.param
    config = MemoryBankConfig(kind=request.param)
    return MemoryBank.build(VECTORS, IDS, directory, encoder_fingerprint="abc", config=config, sample_queries=QUERIES)


def test_recall(bank):
    ids, scores = bank.search(QUERIES, 10)
    expected_ids = IDS[np.argsort(-(QUERIES @ VECTORS.T), axis=1, kind="stable")[:, :10]]
    assert ids.dtype == np.int32 and scores.dtype == np.float32 and ids.shape == scores.shape == (64, 10)
    hits = [len(set(found) & set(true)) / 10 for found, true in zip(ids, expected_ids, strict=True)]
    assert np.mean(hits) >= (1.0 if kind_of(bank) == "brute_force" else 0.98)
    assert (np.diff(scores, axis=1) <= 1e-6).all()
    by_id = dict(zip(IDS, VECTORS, strict=True))
    true_scores = [[by_id[index] @ query for index in row] for row, query in zip(ids, QUERIES, strict=True)]
    np.testing.assert_allclose(scores, true_scores, atol=1e-5)  # rescored exactly
    assert bank.recall_at_10 >= 0.99
    np.testing.assert_allclose(measure_recall(bank, QUERIES, 10), np.mean(hits), atol=1e-6)


def test_the_index_searches_more_until_it_finds_what_it_should(tmp_path):
    careless = MemoryBankConfig(kind="tree", leaves_searched=1, rescored=16)
    found = {}
    for goal in (0.0, 0.99):
        config = dataclasses.replace(careless, recall_goal=goal)
        found[goal] = MemoryBank.build(VECTORS, IDS, tmp_path / str(goal), encoder_fingerprint="abc", config=config)
    searched = {goal: bank.shards[0].shard.config.leaves_searched for goal, bank in found.items()}
    assert searched[0.0] == 1 and found[0.0].recall_at_10 < 0.9
    assert searched[0.99] > 1 and found[0.99].recall_at_10 >= 0.99


def test_moved_folder_answers_the_same(bank, tmp_path):
    expected = bank.search(QUERIES, 10)
    moved = bank.directory.rename(tmp_path / "moved")
    try:
        for file in moved.rglob("*"):
            assert file.is_dir() or str(moved.parent).encode() not in file.read_bytes()
        again = MemoryBank.load(moved, encoder_fingerprint="abc")
        assert (kind_of(again), again.count, again.dim) == (kind_of(bank), COUNT, DIM)
        assert again.recall_at_10 == bank.recall_at_10
        for found, before in zip(again.search(QUERIES, 10), expected, strict=True):
            np.testing.assert_array_equal(found, before)
    finally:
        moved.rename(bank.directory)


def test_padding_and_depth(bank):
    ids, scores = bank.search(QUERIES[:3], COUNT + 5)
    assert (ids[:, -5:] == -1).all() and np.isneginf(scores[:, -5:]).all()
    for row, row_scores in zip(ids, scores, strict=True):
        there = row >= 0
        assert len(set(row[there])) == there.sum() >= (COUNT if kind_of(bank) != "tree" else 100)
        assert (np.flatnonzero(there) == np.arange(there.sum())).all()  # what is missing stands last
        assert np.isneginf(row_scores[~there]).all()
    assert bank.search(QUERIES[:0], 4)[0].shape == (0, 4)
    assert bank.search(QUERIES[:2], 0)[1].shape == (2, 0)


def test_embeddings_of(bank):
    ids = np.array([[IDS[5], -1], [IDS[0], IDS[COUNT - 1]]])
    found = bank.embeddings_of(ids)
    np.testing.assert_array_equal(found, [[VECTORS[5], np.zeros(DIM)], [VECTORS[0], VECTORS[-1]]])
    np.testing.assert_array_equal(bank.ids, np.sort(IDS))
    np.testing.assert_array_equal(np.concatenate(list(bank.blocks())), VECTORS[np.argsort(IDS)])
    for unknown in (4, 10**9):
        with pytest.raises(KeyError):
            bank.embeddings_of(np.array([unknown]))


def test_kind_by_size():
    config = MemoryBankConfig()
    assert [config.resolved(count).kind for count in (1, 19_999, 20_000, 10**6)] == [
        "brute_force", "brute_force", "tree", "tree"
    ]  # fmt: skip
    tree = config.resolved(1_000_000)
    assert (tree.num_leaves, tree.leaves_searched) == (2000, 8)
    set_by_hand = MemoryBankConfig(kind="tree", num_leaves=7, leaves_searched=50).resolved(10**6)
    assert (set_by_hand.num_leaves, set_by_hand.leaves_searched) == (7, 7)
    assert MemoryBankConfig(brute_force_below=10).resolved(25).kind == "tree"


def test_equal_documents_do_not_count_against_recall(tmp_path):
    same = np.repeat(VECTORS[:3], 20, axis=0)
    bank = MemoryBank.build(same, np.arange(60), tmp_path / "bank", encoder_fingerprint="x")
    assert bank.recall_at_10 == 1.0 and kind_of(bank) == "brute_force"


def test_largest_inner_product_not_smallest_angle(tmp_path):
    long = np.concatenate([3 * VECTORS[:1] + 0.5 * VECTORS[1:2], VECTORS[:1]])
    bank = MemoryBank.build(long, np.array([8, 9]), tmp_path / "bank", encoder_fingerprint="x")
    np.testing.assert_array_equal(bank.search(VECTORS[:1], 2)[0], [[8, 9]])


def test_bad_input(bank, tmp_path):
    with pytest.raises(UserError, match="another retriever"):
        MemoryBank.load(bank.directory, encoder_fingerprint="other")
    with pytest.raises(UserError, match="dimensions"):
        bank.search(QUERIES[:, :-1], 3)
    with pytest.raises(UserError, match="cm3leon prepare"):
        MemoryBank.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="kind"):
        MemoryBankConfig(kind="hash")
    with pytest.raises(UserError, match="documents_per_shard"):
        MemoryBankConfig(documents_per_shard=0)

    def build(vectors, ids, **options):
        MemoryBank.build(vectors, ids, tmp_path / "bad", encoder_fingerprint="x", **options)

    with pytest.raises(UserError, match="there are none"):
        build(VECTORS[:0], IDS[:0])
    with pytest.raises(UserError, match="one row for each"):
        build(VECTORS[:5], IDS[:4])
    with pytest.raises(UserError, match="different"):
        build(VECTORS[:2], np.array([4, 4]))
    with pytest.raises(UserError, match="finite"):
        build(np.full((2, 3), np.nan), np.arange(2))
    with pytest.raises(UserError, match="too few"):
        build(VECTORS[:5], IDS[:5], config=MemoryBankConfig(kind="tree"))
    assert not list(tmp_path.iterdir())


def test_damaged_folder(tmp_path):
    bank = MemoryBank.build(VECTORS[:9], IDS[:9], tmp_path / "bank", encoder_fingerprint="x")
    bank.remove(IDS[:2])
    (live,) = bank.shards
    manifest, facts = bank.directory / "bank.json", live.shard.directory / "shard.json"
    for path, was, what in ((manifest, '"count": 9', "does not fit"), (facts, '"count": 9', "do not fit")):
        whole = path.read_text()
        path.write_text(whole.replace(was, '"count": 10'))
        with pytest.raises(UserError, match=what):
            MemoryBank.load(bank.directory)
        path.write_text(whole)
    codes = live.shard.directory / "index/scann_config.pb"
    codes.rename(tmp_path / "away")
    with pytest.raises(UserError, match="cannot be read"):
        MemoryBank.load(bank.directory).search(QUERIES, 1)
    (tmp_path / "away").rename(codes)
    for name in ("shard-00000.removed-2.npy", "shard-00000/ids.npy"):
        (bank.directory / name).rename(tmp_path / "away")
        with pytest.raises(UserError, match="cannot be read"):
            MemoryBank.load(bank.directory)
        (tmp_path / "away").rename(bank.directory / name)
    assert MemoryBank.load(bank.directory).count == 7
    of_others = {"format": 1, "count": 9, "dim": DIM}, {**json.loads(manifest.read_text()), "config": {"no_more": 1}}
    for facts in of_others:
        manifest.write_text(json.dumps(facts))
        with pytest.raises(UserError, match=r"another version.*cm3leon prepare"):
            MemoryBank.load(bank.directory)


def test_leaves_of_few_vectors_are_kept():
    """ScaNN's own settings would join them, and find 96%."""
    centres = np.random.default_rng(0).normal(size=(200, 32))

    def near(count: int, seed: int) -> np.ndarray:
        vectors = np.repeat(centres, count, axis=0)
        vectors = vectors + 0.4 * np.random.default_rng(seed).normal(size=vectors.shape)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    vectors, queries = near(20, 1), near(1, 2)
    config = MemoryBankConfig(kind="tree", leaves_searched=8).resolved(len(vectors))
    scores = Index.build(vectors, config).search(queries, 10, config)[1]
    assert share_found(scores, worst_of_best([vectors], queries, 10)) >= 0.99
