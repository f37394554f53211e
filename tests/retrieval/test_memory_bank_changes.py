"""Documents that come to a memory bank and go: against plain NumPy, from disk, and through kills."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.retrieval.memory_bank import MemoryBank, MemoryBankConfig, manifest, measure_recall
from cm3leon_jax.retrieval.memory_bank import changes as changes_module
from cm3leon_jax.runtime.errors import UserError

DIM = 3
PER_SHARD = 12
CONFIG = MemoryBankConfig(kind="brute_force", documents_per_shard=PER_SHARD)


def whole(count: int, random: np.random.Generator) -> np.ndarray:
    """Small whole numbers: sums are exact, and many scores are equal."""
    return random.integers(-2, 3, (count, DIM)).astype(np.float32)


def build(directory, documents: dict[int, np.ndarray], config=CONFIG) -> MemoryBank:
    embeddings = np.stack(list(documents.values()))
    return MemoryBank.build(embeddings, np.array(list(documents)), directory, encoder_fingerprint="x", config=config)


def some(count: int, first: int = 0, seed: int = 0) -> dict[int, np.ndarray]:
    return dict(enumerate(whole(count, np.random.default_rng(seed)), start=first))


def check(bank: MemoryBank, documents: dict[int, np.ndarray], k: int = 5, queries=None) -> None:
    """The bank answers as a comparison of the queries with all documents does."""
    queries = whole(6, np.random.default_rng(77)) if queries is None else queries
    ids = np.array(sorted(documents), np.int32)
    true = queries @ np.array([documents[index] for index in ids], np.float32).reshape(-1, DIM).T
    order = np.argsort(-true, axis=1, kind="stable")[:, :k]
    padding = ((0, 0), (0, k - order.shape[1]))
    found, scores = bank.search(queries, k)
    np.testing.assert_array_equal(found, np.pad(ids[order], padding, constant_values=-1))
    true_scores = np.take_along_axis(true, order, axis=1)
    np.testing.assert_array_equal(scores, np.pad(true_scores, padding, constant_values=-np.inf))
    assert bank.count == len(documents) and bank.recall_at_10 == 1.0
    np.testing.assert_array_equal(np.sort(bank.ids), ids)
    np.testing.assert_array_equal(bank.embeddings_of(ids), [documents[index] for index in ids] or np.zeros((0, DIM)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["insert", "remove", "remove", "compact", "reload"]), max_size=9), st.integers(0, 999))
def test_any_order_of_changes_equals_numpy(tmp_path_factory, operations, seed):
    random = np.random.default_rng(seed)
    documents = some(int(random.integers(1, 40)), seed=seed)
    bank = build(tmp_path_factory.mktemp("bank") / "bank", documents)
    for operation in operations:
        if operation == "insert":  # of ids that never were there, or were removed
            free = np.setdiff1d(np.arange(300), list(documents))[:30]
            new = random.permutation(free)[: random.integers(1, 20)]
            embeddings = whole(len(new), random)
            bank.insert(embeddings, new)
            documents |= dict(zip(new.tolist(), embeddings, strict=True))
        elif operation == "remove":
            gone = random.permutation(sorted(documents))[: random.integers(0, len(documents) + 1)]
            bank.remove(gone.astype(int))
            documents = {index: row for index, row in documents.items() if index not in gone}
        elif operation == "compact":
            bank.compact()
            left = [entry.count - entry.removed for entry in bank.manifest.shards]
            assert all(entry.removed <= 0.2 * entry.count for entry in bank.manifest.shards)
            assert sum(2 * count <= PER_SHARD for count in left) <= 1 and max(left, default=0) <= PER_SHARD
        else:
            bank = MemoryBank.load(bank.directory, encoder_fingerprint="x")
        check(bank, documents, k=int(random.integers(1, 50)))
    check(MemoryBank.load(bank.directory), documents)


def test_an_inserted_shard_leaves_the_others_alone(tmp_path):
    documents = some(30)
    bank = build(tmp_path / "bank", documents)
    before = {path: path.stat().st_mtime_ns for path in bank.directory.rglob("*") if path.name != "bank.json"}
    shards = [live.shard.directory.name for live in bank.shards]
    more = some(25, first=100, seed=1)
    bank.insert(np.stack(list(more.values())), np.array(list(more)))
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path: when for path, when in before.items() if path.is_file()} == {
        path: when for path, when in after.items() if path.is_file()
    }
    assert [live.shard.directory.name for live in bank.shards][:3] == shards and len(bank.shards) == 3 + 3
    check(bank, documents | more)


def test_compact_rebuilds_only_what_is_worth_it(tmp_path):
    documents = some(48)
    bank = build(tmp_path / "bank", documents)
    assert [live.count for live in bank.shards] == [12] * 4
    gone = [0, 1, 12, 13, 14, *range(24, 36)]  # a sixth, a quarter and all of a shard
    bank.remove(np.array(gone))
    small = some(2, first=100, seed=1)
    for index, row in small.items():
        bank.insert(row[None], np.array([index]))
    left = {index: row for index, row in (documents | small).items() if index not in gone}
    bank.compact()
    folders = [entry.folder for entry in bank.manifest.shards]
    assert folders == ["shard-00000", "shard-00003", "shard-00006"]  # the small ones have joined the worn one
    assert [(entry.count, entry.removed) for entry in bank.manifest.shards] == [(12, 2), (12, 0), (11, 0)]
    assert {path.name for path in bank.directory.iterdir()} == {"bank.json", "shard-00000.removed-2.npy", *folders}
    check(bank, left)
    unchanged = (bank.directory / "bank.json").stat().st_mtime_ns
    bank.compact()
    assert (bank.directory / "bank.json").stat().st_mtime_ns == unchanged
    bank.compact(max_removed_share=0.1)
    assert all(not entry.removed for entry in bank.manifest.shards)
    bank.compact(MemoryBankConfig(documents_per_shard=100))
    assert len(bank.shards) == 1
    check(MemoryBank.load(bank.directory), left)


def test_a_bank_may_become_empty_and_be_filled_again(tmp_path):
    documents = some(20)
    bank = build(tmp_path / "bank", documents)
    bank.search(np.ones((1, DIM)), 3)
    bank.remove(bank.ids)
    check(bank, {})
    assert measure_recall(bank, np.ones((2, DIM), np.float32), 10) == 1.0
    bank.compact()
    assert bank.shards == () and MemoryBank.load(bank.directory).dim == DIM
    check(bank, {})
    other = some(20, seed=5)
    bank.insert(np.stack(list(other.values())), np.array(list(other)))
    assert bank.manifest.shards[0].folder != "shard-00000"  # another process may still have that one open
    check(bank, other)


@pytest.mark.parametrize("kind", ["hashing", "tree"])
def test_removed_documents_do_not_stand_in_the_way_of_others(tmp_path, kind):
    random = np.random.default_rng(3)
    vectors = random.normal(size=(800, 16)).astype(np.float32)
    config = MemoryBankConfig(kind=kind)
    bank = MemoryBank.build(vectors, np.arange(800), tmp_path / "bank", encoder_fingerprint="x", config=config)
    queries = random.normal(size=(30, 16)).astype(np.float32)
    nearest = np.unique(bank.search(queries[:15], 12)[0])  # half the queries lose all that they found
    bank.remove(nearest)
    ids, scores = bank.search(queries, 10)
    assert (ids >= 0).all() and not np.isin(ids, nearest).any() and (np.diff(scores, axis=1) <= 0).all()
    assert measure_recall(bank, queries, 10) >= 0.97
    bank.insert(vectors[nearest[:3]], nearest[:3])  # too few for the bank's own kind of index
    assert (bank.search(vectors[nearest[:3]], 3)[0] == nearest[:3, None]).any(axis=1).all()


class Killed(BaseException):
    """Not an Exception, as a signal is not."""


OPERATIONS = {
    "insert": lambda bank: bank.insert(whole(30, np.random.default_rng(9)), np.arange(100, 130)),
    "remove": lambda bank: bank.remove(np.array([2, 3, 14, 30])),
    "compact": lambda bank: bank.compact(max_removed_share=0.01),
}
# Where the process dies, and how many calls before.
KILLS = [
    ("insert", changes_module, "build_shard", 1),
    ("remove", manifest.np, "save", 1),
    ("compact", changes_module, "build_shard", 1),
    *((operation, manifest, "write_json", 0) for operation in OPERATIONS),
    *((operation, manifest, "remove", 0) for operation in ("remove", "compact")),
]


@pytest.mark.parametrize(("operation", "module", "name", "calls_before"), KILLS)
def test_a_kill_leaves_the_old_bank_or_the_new_one(tmp_path, monkeypatch, operation, module, name, calls_before):
    banks = []
    for folder in ("killed", "whole"):
        bank = build(tmp_path / folder, some(36))
        bank.remove(np.array([1, 13, 25]))
        bank.insert(whole(2, np.random.default_rng(8)), np.array([60, 61]))
        banks.append(bank)
    killed, undisturbed = banks
    states = [{int(index): bank.embeddings_of([index])[0] for index in bank.ids} for bank in (killed,)]
    OPERATIONS[operation](undisturbed)
    states.append({int(index): undisturbed.embeddings_of([index])[0] for index in undisturbed.ids})

    calls, original = [], getattr(module, name)

    def dies(*arguments, **options):
        calls.append(arguments)
        if len(calls) > calls_before:
            raise Killed
        return original(*arguments, **options)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(module, name, dies)
        OPERATIONS[operation](killed)
    (killed.directory / ".shard-00009.1.tmp").mkdir()  # what a real kill leaves
    again = MemoryBank.load(killed.directory)
    done = name == "remove"  # of files that are of no use any more: the new state was written before
    check(again, states[done])
    if not done:
        check(killed, states[0])  # the object, too, is what it was
        OPERATIONS[operation](again)
    else:
        again.remove(again.ids[:1])
        undisturbed.remove(undisturbed.ids[:1])
        states[1] = {int(index): undisturbed.embeddings_of([index])[0] for index in undisturbed.ids}
    check(again, states[1])
    check(MemoryBank.load(again.directory), states[1])
    left = [{path.name for path in bank.directory.iterdir()} for bank in (again, undisturbed)]
    assert left[0] == left[1]


def test_bad_input(tmp_path):
    bank = build(tmp_path / "bank", some(20))
    state = (bank.directory / "bank.json").read_text()
    with pytest.raises(UserError, match="document 7 is in the memory bank already"):
        bank.insert(np.ones((2, DIM)), np.array([50, 7]))
    with pytest.raises(UserError, match="dimensions"):
        bank.insert(np.ones((2, DIM + 1)), np.array([50, 51]))
    with pytest.raises(UserError, match="there are none"):
        bank.insert(np.ones((0, DIM)), np.array([], int))
    for unknown in ([3, 20], [-1]):
        with pytest.raises(KeyError):
            bank.remove(np.array(unknown))
    bank.remove([])
    assert bank.count == 20 and (bank.directory / "bank.json").read_text() == state
    bank.remove([3, 3])
    for gone in (bank.remove, bank.embeddings_of):
        with pytest.raises(KeyError):
            gone([3])
    assert bank.count == 19
