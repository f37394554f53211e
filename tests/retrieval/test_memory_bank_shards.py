"""A memory bank of many shards answers as one would, built here or there, and in little memory."""

import dataclasses
import os
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.retrieval.memory_bank import MemoryBank, MemoryBankConfig, build_shard, measure_recall, shard_folder
from cm3leon_jax.retrieval.memory_bank.index import Index
from cm3leon_jax.retrieval.memory_bank.residency import ResidentIndexes
from cm3leon_jax.retrieval.memory_bank.shard import Shard
from cm3leon_jax.runtime.errors import UserError

DIM = 4
BRUTE_FORCE = MemoryBankConfig(kind="brute_force")


def whole(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Small whole numbers: sums are exact, and many scores are equal."""
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)


def contents(directory) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def assemble(directory, embeddings, ids, groups, **options) -> MemoryBank:
    """A bank with a shard for each group of rows, each built on its own."""
    for number, rows in enumerate(groups):
        build_shard(embeddings[rows], ids[rows], directory / shard_folder(number), **options)
    return MemoryBank.assemble(directory, encoder_fingerprint="x", config=options.get("config"))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 70), st.integers(0, 2**32 - 1))
def test_any_division_gives_what_one_comparison_gives(tmp_path_factory, count, pieces, k, seed):
    random = np.random.default_rng(seed)
    embeddings, queries, ids = whole((count, DIM), seed), whole((20, DIM), seed + 1), random.permutation(100)[:count]
    of_piece = random.integers(0, pieces, count)
    groups = [np.flatnonzero(of_piece == piece) for piece in np.unique(of_piece)]
    bank = assemble(tmp_path_factory.mktemp("bank"), embeddings, ids, groups, config=BRUTE_FORCE)
    found, scores = bank.search(queries, k)
    true = queries @ embeddings.T
    order = np.stack([np.lexsort((ids, -row)) for row in true])[:, :k]
    present = order.shape[1]
    np.testing.assert_array_equal(found[:, :present], ids[order])
    np.testing.assert_array_equal(scores[:, :present], np.take_along_axis(true, order, axis=1))
    assert found.shape == scores.shape == (20, k)
    assert (found[:, present:] == -1).all() and np.isneginf(scores[:, present:]).all()
    assert bank.count == count and bank.recall_at_10 == measure_recall(bank, queries, 10) == 1.0
    np.testing.assert_array_equal(bank.embeddings_of(ids), embeddings)
    np.testing.assert_array_equal(bank.embeddings_of(bank.ids), np.concatenate(list(bank.blocks())))


def test_open_shards_hold_no_files_open(tmp_path):
    """A bank of 340M documents has 340 shards, and a process may have 256 files open."""
    embeddings, ids = whole((120, DIM), 0), np.arange(120)
    open_before = len(os.listdir("/proc/self/fd"))
    bank = assemble(tmp_path, embeddings, ids, np.split(ids, 40), config=BRUTE_FORCE)
    bank.search(whole((3, DIM), 1), 5)
    np.testing.assert_array_equal(bank.embeddings_of(ids), embeddings)
    assert len(bank.shards) == 40 and len(os.listdir("/proc/self/fd")) < open_before + 10


def test_build_divides_evenly_and_the_same_input_gives_the_same_bytes(tmp_path):
    random = np.random.default_rng(0)
    embeddings, ids = random.normal(size=(103, DIM)).astype(np.float32), random.permutation(1000)[:103]
    config = MemoryBankConfig(kind="hashing", documents_per_shard=30, recall_goal=0.0)
    banks = [
        MemoryBank.build(embeddings, ids, tmp_path / name, encoder_fingerprint="x", config=config) for name in "ab"
    ]
    shards = [live.shard for live in banks[0].shards]
    assert [shard.count for shard in shards] == [26, 26, 26, 25]
    assert {shard.kind for shard in shards} == {"hashing"}
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    one_by_one = assemble(tmp_path / "c", embeddings, ids, np.array_split(np.arange(103), 4), config=config)
    assert contents(tmp_path / "c") == contents(tmp_path / "a")
    expected = np.average([shard.recall_at_10 for shard in shards], weights=[26, 26, 26, 25])
    assert one_by_one.recall_at_10 == pytest.approx(expected)


def test_a_bank_of_several_indexes_finds_what_it_should(tmp_path):
    random = np.random.default_rng(0)
    centres = random.normal(size=(20, 24))
    vectors = (centres[random.integers(0, 20, 1700)] + 0.3 * random.normal(size=(1700, 24))).astype(np.float32)
    vectors, queries = vectors[:1600], vectors[1600:]
    config = MemoryBankConfig(kind="tree", documents_per_shard=400)
    bank = MemoryBank.build(
        vectors, np.arange(1600), tmp_path / "bank", encoder_fingerprint="x", config=config, sample_queries=queries
    )
    assert len(bank.shards) == 4 and bank.recall_at_10 >= 0.99
    assert measure_recall(bank, queries, 10) >= 0.99
    ids, scores = bank.search(queries, 10)
    assert (np.diff(scores, axis=1) <= 0).all() and len(np.unique(ids[0])) == 10


@dataclasses.dataclass
class Loads:
    """Of indexes that are loaded: their folders, those still in memory, and the most that there were at a time."""

    folders: list[str] = dataclasses.field(default_factory=list)
    alive: weakref.WeakSet = dataclasses.field(default_factory=weakref.WeakSet)
    most: int = 0


@pytest.fixture
def loads(monkeypatch) -> Loads:
    loads, load_index = Loads(), Shard.load_index

    def counted(shard: Shard) -> Index:
        index = load_index(shard)
        loads.folders.append(shard.directory.name)
        loads.alive.add(index)
        loads.most = max(loads.most, len(loads.alive))
        return index

    monkeypatch.setattr(Shard, "load_index", counted)
    return loads


def test_no_more_is_in_memory_than_allowed(tmp_path, loads):
    embeddings, queries, ids = whole((60, DIM), 0), whole((9, DIM), 1), np.arange(60)
    assemble(tmp_path, embeddings, ids, np.split(ids, 6), config=BRUTE_FORCE)
    unlimited = MemoryBank.load(tmp_path)
    assert not loads.folders  # nothing is loaded before it is searched
    expected = unlimited.search(queries, 7)
    unlimited.search(queries, 7)
    assert len(loads.folders) == len(loads.alive) == 6
    of_one = unlimited.shards[0].shard.nbytes
    del unlimited
    for limit, allowed in ((0, 1), (of_one, 1), (3 * of_one + 1, 3), (6 * of_one, 6)):
        assert not loads.alive
        bank = MemoryBank.load(tmp_path, memory_limit=limit)
        loads.folders.clear()
        loads.most = 0
        for _ in range(3):
            for found, before in zip(bank.search(queries, 7), expected, strict=True):
                np.testing.assert_array_equal(found, before)
        assert loads.most == len(loads.alive) == allowed
        # The shards that are there are searched first: each further call loads only the others.
        assert len(loads.folders) == 6 + 2 * (6 - allowed)
        bank.embeddings_of(ids)
        assert len(loads.folders) == 6 + 2 * (6 - allowed)
        del bank


def test_the_least_recently_used_leave(tmp_path, loads):
    ids = np.arange(30)
    assemble(tmp_path, whole((30, DIM), 0), ids, np.split(ids, 3), config=BRUTE_FORCE)
    shards = [live.shard for live in MemoryBank.load(tmp_path).shards]
    resident = ResidentIndexes(2 * shards[0].nbytes)
    for place in (0, 1, 0, 2, 0, 1):
        resident.get(shards[place])
    assert loads.folders == ["shard-00000", "shard-00001", "shard-00002", "shard-00001"]


def test_shards_that_do_not_fit_together(tmp_path):
    with pytest.raises(UserError, match="build_shard"):
        MemoryBank.assemble(tmp_path, encoder_fingerprint="x")
    build_shard(whole((5, 3), 0), np.arange(5), tmp_path / "shard-00000")
    build_shard(whole((5, 3), 0), np.arange(4, 9), tmp_path / "shard-00001")
    with pytest.raises(UserError, match="document 4 is in two shards"):
        MemoryBank.assemble(tmp_path, encoder_fingerprint="x")
    build_shard(whole((5, 4), 0), np.arange(5, 10), tmp_path / "shard-00001")
    with pytest.raises(UserError, match=r"\[3, 4\] dimensions"):
        MemoryBank.assemble(tmp_path, encoder_fingerprint="x")
    assert not (tmp_path / "bank.json").exists()
    with pytest.raises(UserError, match="no memory bank"):
        MemoryBank.load(tmp_path)
