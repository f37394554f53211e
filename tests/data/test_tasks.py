"""seqio tasks: what their sequences hold, and that random access reads the same."""

import dataclasses

import numpy as np
import pytest
import seqio
from prepared_folder import VOCABULARY, write_prepared

from cm3leon_jax.data.joint_vocabulary import JointVocabulary
from cm3leon_jax.data.objective import Objective, ObjectiveConfig
from cm3leon_jax.data.packing import pack
from cm3leon_jax.data.preprocessors import example_of, neighbours_of
from cm3leon_jax.data.random_access import RandomAccess, sample_examples, tasks_and_rates
from cm3leon_jax.data.seqio_rows import RowConverter
from cm3leon_jax.data.settings import PretrainingConfig, StreamConfig
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.data.tasks import pretraining_mixture, register_pretraining, unregister
from cm3leon_jax.documents import parse
from cm3leon_jax.runtime.errors import UserError

NAME = "tasks_test"
CONFIG = PretrainingConfig(retrieved_min=1, retrieved_max=3, retrieval_augmented_rate=3, plain_rate=1)
AUGMENTED, PLAIN = f"{NAME}.retrieval_augmented_pairs", f"{NAME}.plain_pairs"
SIZE = 24


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("prepared"), train=SIZE, validation=5)


@pytest.fixture(scope="module", autouse=True)
def registered(directory):
    register_pretraining(directory, NAME, CONFIG)
    yield
    unregister(NAME)


def assert_same(first, second):
    assert np.array_equal(first.ids, second.ids) and first.ids.dtype == second.ids.dtype == np.int32
    assert (first.key, first.retrieved, first.answers) == (second.key, second.retrieved, second.answers)


def dataset(name, **settings):
    found = seqio.get_mixture_or_task(name).get_dataset(sequence_length={"tokens": 200}, **settings)
    return found.as_numpy_iterator()


def take(name, count, **settings):
    examples = dataset(name, **settings)
    return [next(examples) for _ in range(count)]


@pytest.mark.parametrize("name", [AUGMENTED, PLAIN])
def test_random_access_gives_what_seqio_gives(name):
    """The same sequence for the same (seed, epoch, index), over several epochs."""
    task = RandomAccess(seqio.TaskRegistry.get(name), "train")
    examples = take(name, 2 * SIZE + 3, split="train", shuffle=False, seed=7, num_epochs=3)
    for place, example in enumerate(examples):
        epoch, index = divmod(place, SIZE)
        assert_same(example_of(example), task.example(7, epoch, index))


def test_shuffling_and_sharding_change_the_order_alone():
    task = RandomAccess(seqio.TaskRegistry.get(AUGMENTED), "train")
    found = []
    for shard in range(3):
        info = seqio.ShardInfo(index=shard, num_shards=3)
        examples = list(dataset(AUGMENTED, split="train", shuffle=True, seed=7, shard_info=info))
        for example in examples:
            assert np.array_equal(example["tokens"], task.example(7, 0, int(example["index"])).ids)
        indices = [int(example["index"]) for example in examples]
        assert indices != sorted(indices)
        found += indices
    assert sorted(found) == list(range(SIZE))


def test_the_mixture_is_deterministic_given_the_seed():
    first, again, other = (take(NAME, 40, split="train", shuffle=True, seed=seed) for seed in (3, 3, 4))
    assert all(example.keys() == {"tokens", "retrieved", "key"} for example in first)
    assert all(np.array_equal(a["tokens"], b["tokens"]) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a["tokens"], b["tokens"]) for a, b in zip(first, other, strict=True))


def test_without_a_seed_every_call_differs():
    first, again = (take(PLAIN, SIZE, split="train", shuffle=False) for _ in range(2))
    assert not any(np.array_equal(a["key"], b["key"]) for a, b in zip(first, again, strict=True))


def test_augmented_pairs_hold_retrieved_documents_in_changing_number_and_order(directory):
    data = PreparedData(directory)
    train, task = data.split("train"), RandomAccess(seqio.TaskRegistry.get(AUGMENTED), "validation")
    query = data.split("validation")[2]
    neighbours = neighbours_of(query)
    assert len(neighbours) == 3  # four are stored, and one of them twice
    seen = set()
    for epoch in range(60):
        *retrieved, last = parse(task.example(0, epoch, 2).ids, VOCABULARY)
        assert np.array_equal(last.text, query.text) and np.array_equal(last.image, query.image)
        places = [
            next(int(n) for n in neighbours if np.array_equal(train[int(n)].image, found.image)) for found in retrieved
        ]
        assert len(set(places)) == len(places)
        seen.add(tuple(places))
    assert {len(places) for places in seen} == {1, 2, 3}
    assert len(seen) == 3 + 6 + 6  # every number of them, in every order


def test_plain_pairs_are_the_documents_alone(directory):
    train, task = PreparedData(directory).split("train"), RandomAccess(seqio.TaskRegistry.get(PLAIN), "train")
    for index in range(SIZE):
        (document,) = parse(task.example(0, 0, index).ids, VOCABULARY)
        assert np.array_equal(document.text, train[index].text) and np.array_equal(document.image, train[index].image)


def test_keys_are_drawn_anew_in_each_epoch():
    """What masks are drawn from."""
    task = RandomAccess(seqio.TaskRegistry.get(PLAIN), "train")
    keys = [task.example(0, epoch, index).key for epoch in range(20) for index in range(SIZE)]
    assert len(set(keys)) == len(keys)
    assert task.example(0, 3, 4).key == task.example(0, 3, 4).key


def test_examples_keep_their_length():
    """They are not cut to a row's: rows are cut out of them."""
    task = seqio.get_mixture_or_task(NAME)
    lengths = [
        len(example["tokens"])
        for example in task.get_dataset({"tokens": 10}, split="validation", num_epochs=1).as_numpy_iterator()
    ]
    assert min(lengths) > 10


@pytest.mark.parametrize("packing", ["straddle", "whole"])
def test_seqio_makes_the_rows_of_the_stream(packing):
    """Of the same examples in the same order, byte for byte; more than one epoch of them."""
    config, objective = StreamConfig(length=50, packing=packing), Objective(VOCABULARY, ObjectiveConfig(rate=2.0))
    found = seqio.get_dataset(
        AUGMENTED, {"tokens": 50}, RowConverter(config, objective), dataset_split="train", seed=7, num_epochs=3
    )
    task = RandomAccess(seqio.TaskRegistry.get(AUGMENTED), "train")
    examples = (task.example(7, epoch, index) for epoch in range(3) for index in range(SIZE))
    rows = 0
    for row, expected in zip(found.as_numpy_iterator(), pack(examples, config, objective), strict=True):
        assert row.keys() == expected.keys()
        assert all(row[name].tobytes() == expected[name].tobytes() for name in row)
        rows += 1
    assert rows > SIZE


def test_rates_become_shares():
    assert {task.name: rate for task, rate in tasks_and_rates(NAME)} == {AUGMENTED: 0.75, PLAIN: 0.25}
    assert [(task.name, rate) for task, rate in tasks_and_rates(PLAIN)] == [(PLAIN, 1.0)]


def test_a_rate_of_nothing_leaves_a_task_out_of_the_mixture(directory):
    register_pretraining(directory, "one_task", PretrainingConfig())
    try:
        names = [task.name for task, _ in tasks_and_rates("one_task")]
        assert names == ["one_task.retrieval_augmented_pairs"]
    finally:
        unregister("one_task")
    assert not [name for name in seqio.TaskRegistry.names() if name.startswith("one_task")]
    unregister("one_task")


def test_sampled_examples_are_the_tasks_own():
    drawn = sample_examples(NAME, split="validation", count=30, seed=1)
    assert {name for name, _ in drawn} == {AUGMENTED, PLAIN}
    for name, example in drawn:
        assert (len(parse(example.ids, VOCABULARY)) == 1) == (name == PLAIN)


def test_names_and_splits_that_are_not_there_are_user_errors(directory):
    with pytest.raises(UserError, match="registered already"):
        register_pretraining(directory, NAME, CONFIG)
    with pytest.raises(UserError, match=f"no task or mixture 'nothing'.*{NAME}"):
        tasks_and_rates("nothing")
    with pytest.raises(UserError, match="no split 'test'"):
        RandomAccess(seqio.TaskRegistry.get(PLAIN), "test")


def test_tasks_of_others_cannot_be_read_by_random_access():
    task = seqio.TaskRegistry.get(PLAIN).replace(name="other", preprocessors=[seqio.preprocessors.append_eos])
    with pytest.raises(UserError, match="random access"):
        RandomAccess(task, "train")


@pytest.mark.parametrize(
    "wrong", [{"retrieved_min": 4}, {"retrieved_min": -1}, {"plain_rate": -1.0}, {"retrieval_augmented_rate": 0.0}]
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(UserError):
        PretrainingConfig(**wrong)


@dataclasses.dataclass
class Letters:
    """Stands in for the text tokenizer: one letter an id."""

    def encode(self, text):
        return np.array([ord(letter) for letter in text], np.int32)

    def decode(self, ids):
        return "".join(chr(value) for value in ids)


def test_the_vocabulary_reads_and_writes_for_people():
    vocabulary = JointVocabulary(VOCABULARY, Letters())
    assert vocabulary.vocab_size == VOCABULARY.size
    assert list(vocabulary.encode("cat")) == [99, 97, 116]
    assert vocabulary.encode_tf("cat").numpy().tolist() == [99, 97, 116]
    ids = [1, 99, 97, 116, VOCABULARY.break_id, VOCABULARY.image_offset, VOCABULARY.image_offset + 3, 1]
    assert vocabulary.decode(ids) == "<eos> cat <break> [image 2 codes] <eos>"
    assert vocabulary.decode_tf(np.array(ids, np.int32)).numpy().decode() == vocabulary.decode(ids)
    assert vocabulary == JointVocabulary(VOCABULARY) != JointVocabulary(dataclasses.replace(VOCABULARY, image_size=65))
    with pytest.raises(UserError, match="text tokenizer"):
        JointVocabulary(VOCABULARY).encode("cat")


def test_documents_of_other_kinds_have_tasks_of_their_own(tmp_path):
    sizes = {"train": 8, "train.text": 5, "train.interleaved": 6, "validation.text": 2}
    write_prepared(tmp_path, **sizes)
    rates = PretrainingConfig(plain_rate=1, text_only_rate=1, interleaved_rate=2)
    with pretraining_mixture(tmp_path, "kinds", rates) as name:
        assert {task.name: rate for task, rate in tasks_and_rates(name)} == {
            "kinds.retrieval_augmented_pairs": 0.2, "kinds.plain_pairs": 0.2, "kinds.text_only": 0.2,
            "kinds.interleaved": 0.4,
        }  # fmt: skip
        tasks = {name: seqio.TaskRegistry.get(f"kinds.{name}") for name in ("text_only", "interleaved", "plain_pairs")}
        assert tasks["text_only"].source.splits == ("train", "validation")
        for kind, task in tasks.items():
            split = PreparedData(tmp_path).split({"plain_pairs": "train"}.get(kind, f"train.{kind.split('_')[0]}"))
            alone = RandomAccess(task, "train")
            assert len(alone) == len(split)
            elements = list(task.get_dataset({"tokens": 999}, "train", shuffle=False, seed=3).as_numpy_iterator())
            for index in range(len(split)):
                example = alone.example(3, 0, index)
                assert parse(example.ids, VOCABULARY) == list(split[index].documents)
                assert example.retrieved == 0
                assert_same(example_of(elements[index]), example)
    assert not [task for task in seqio.TaskRegistry.names() if task.startswith("kinds.")]


def test_a_rate_for_documents_that_are_not_there_is_a_user_error(directory):
    with pytest.raises(UserError, match="no documents for the task text_only"):
        register_pretraining(directory, "none", PretrainingConfig(text_only_rate=1))


def test_sources_with_weights_are_tasks_of_their_own(tmp_path):
    sources = [
        {"name": "a", "weight": 3.0, "splits": {"train": [0, 10], "validation": [0, 4]}},
        {"name": "b", "weight": 1.0, "splits": {"train": [10, 40]}},
    ]
    write_prepared(tmp_path, sources=sources, train=40, validation=4)
    with pretraining_mixture(tmp_path, "weighted", PretrainingConfig(plain_rate=1)) as name:
        assert {task.name: rate for task, rate in tasks_and_rates(name)} == {
            "weighted.retrieval_augmented_pairs.0": 0.375, "weighted.retrieval_augmented_pairs.1": 0.125,
            "weighted.plain_pairs.0": 0.375, "weighted.plain_pairs.1": 0.125,
        }  # fmt: skip
        train = PreparedData(tmp_path).split("train")
        for number, places in ((0, range(10)), (1, range(10, 40))):
            task = RandomAccess(seqio.TaskRegistry.get(f"weighted.plain_pairs.{number}"), "train")
            assert len(task) == len(places)
            for index, place in enumerate(places):
                (document,) = parse(task.example(0, 0, index).ids, VOCABULARY)
                assert document == train[place].documents[0]
