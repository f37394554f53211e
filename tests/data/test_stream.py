"""The training stream: the batch of a step is the same after a restart and on any number of hosts."""

import dataclasses
import itertools

import numpy as np
import pytest
from prepared_folder import VOCABULARY, write_prepared

from cm3leon_jax.data.objective import ObjectiveConfig
from cm3leon_jax.data.settings import PretrainingConfig, StreamConfig
from cm3leon_jax.data.stream import make_stream as make_any_stream
from cm3leon_jax.data.tasks import pretraining_mixture, register_pretraining, unregister
from cm3leon_jax.documents import parse
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import EOS_ID

NAME = "stream_test"
PRETRAINING = PretrainingConfig(retrieved_min=1, retrieved_max=2, retrieval_augmented_rate=0.4, plain_rate=0.6)
SIZE = 200
WHOLE = StreamConfig(length=96, batch_size=8, lanes=4, packing="whole", lookahead=8, chapter_steps=5, seed=3)
ANYWHERE = StreamConfig(length=50, batch_size=8, lanes=4, packing="straddle", chapter_steps=5, seed=3)
STRADDLE = dataclasses.replace(ANYWHERE, begin_inside_images=False)


def make_stream(name, config, objective=ObjectiveConfig(), **options):  # noqa: B008
    return make_any_stream(name, config, objective, **options)


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    directory = write_prepared(tmp_path_factory.mktemp("prepared"), train=SIZE, validation=5)
    register_pretraining(directory, NAME, PRETRAINING)
    yield directory
    unregister(NAME)


@pytest.fixture(scope="module", params=[WHOLE, STRADDLE, ANYWHERE], ids=["whole", "straddle", "anywhere"])
def config(request):
    return request.param


@pytest.fixture(scope="module")
def batches(config):
    """Thirteen steps, two chapters and a half, with the position behind each."""
    return list(itertools.islice(make_stream(NAME, config)(None), 13))


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_batches_have_the_agreed_form(config, batches):
    for batch, _ in batches:
        assert {name: array.dtype.name for name, array in batch.items()} == {
            "tokens": "int32",
            "targets": "int32",
            "weights": "float32",
            "positions": "int32",
            "segments": "int32",
            "retrieved": "int32",
        }
        assert all(array.shape == (8, config.length) for array in batch.values())
        inside = batch["segments"][:, 1:] == batch["segments"][:, :-1]
        inside &= batch["segments"][:, 1:] > 0
        assert np.array_equal(batch["tokens"][:, 1:][inside], batch["targets"][:, :-1][inside])


@pytest.mark.parametrize("done", [1, 5, 7, 12])
def test_a_restart_continues_with_the_same_batches(config, batches, done):
    position = batches[done - 1][1]
    again = list(itertools.islice(make_stream(NAME, config)(position), 13 - done))
    assert_same([batch for batch, _ in again], [batch for batch, _ in batches[done:]])
    assert [p for _, p in again] == [p for _, p in batches[done:]]


@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_makes_the_same_global_batch(config, batches, processes):
    streams = [make_stream(NAME, config, process_index=index, process_count=processes) for index in range(processes)]
    # They continue what one process began.
    parts = [list(itertools.islice(stream(batches[2][1]), 4)) for stream in streams]
    whole = [
        {name: np.concatenate([batch[name] for batch, _ in step]) for name in step[0][0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(whole, [batch for batch, _ in batches[3:7]])
    assert parts[0][-1][1] == parts[1][-1][1] == batches[6][1]


def values_of(batch, name):
    """What a batch of whole examples holds for each example."""
    for values, segments in zip(batch[name], batch["segments"], strict=True):
        for segment in range(1, segments.max() + 1):
            yield values[segments == segment]


def examples_of(batch):
    """The sequences in batches of whole examples."""
    for tokens, targets in zip(values_of(batch, "tokens"), values_of(batch, "targets"), strict=True):
        yield np.append(tokens, targets[-1])


def test_targets_know_how_many_documents_were_retrieved_for_their_example(config, batches):
    found = set()
    for batch, _ in batches:
        if config.packing == "whole":
            for ids, retrieved in zip(examples_of(batch), values_of(batch, "retrieved"), strict=True):
                assert set(retrieved) == {len(parse(ids, VOCABULARY)) - 1}
        # It changes nowhere but where an example ends and another begins, and both do with <eos>; and in the tail.
        changed = batch["retrieved"][:, 1:] != batch["retrieved"][:, :-1]
        begun = np.where(batch["segments"] > 0, batch["tokens"], EOS_ID) == EOS_ID
        moved = VOCABULARY.is_sentinel(batch["targets"])
        assert (begun | moved)[:, 1:][changed].all()
        found |= set(batch["retrieved"][batch["weights"] > 0].tolist())
    assert found == {0, 1, 2}


def test_rates_hold_and_every_epoch_passes_through_the_data():
    stream = make_stream(NAME, StreamConfig(**{**vars(WHOLE), "chapter_steps": 20}))
    found = [parse(ids, VOCABULARY) for batch, _ in itertools.islice(stream(None), 100) for ids in examples_of(batch)]
    plain = [documents[0] for documents in found if len(documents) == 1]
    assert len(plain) / len(found) == pytest.approx(0.6, abs=0.03)
    uses = np.unique([document.image.tobytes() for document in plain], return_counts=True)[1]
    # So many epochs over 200 documents: each is used in nearly each of them, and the masks differ.
    epochs = len(plain) / SIZE
    assert epochs > 4
    assert len(uses) == SIZE
    assert uses.min() >= epochs - 3 and uses.max() <= epochs + 3
    assert uses.std() < 0.8  # 2.2, were they drawn with replacement


def test_a_task_too_rare_for_every_deck_has_its_share_all_the_same(registered):
    config = PretrainingConfig(retrieved_min=1, retrieved_max=1, retrieval_augmented_rate=0.02, plain_rate=0.98)
    with pretraining_mixture(registered, "rare", config):
        stream = make_stream("rare", dataclasses.replace(WHOLE, chapter_steps=5))
        retrieved = [len(parse(ids, VOCABULARY)) - 1 for batch, _ in itertools.islice(stream(None), 200)
                     for ids in examples_of(batch)]  # fmt: skip
    assert len(retrieved) / 40 / WHOLE.lanes * 0.02 < 1  # one deck of a lane is due less than one such example
    assert np.mean(retrieved) == pytest.approx(0.02, abs=0.004)


def test_lanes_deal_every_example_once_an_epoch(registered):
    stream = make_stream(NAME, WHOLE)
    dealt = [
        card * WHOLE.lanes + lane
        for lane in range(WHOLE.lanes)
        for card in range(stream._cards_before(0, lane, 0), stream._cards_before(0, lane, 1000))
    ]
    due = 1000 * stream._rates[0] * stream._deck_size * WHOLE.lanes
    assert len(dealt) == len(set(dealt)) == pytest.approx(due, abs=1)
    assert max(dealt) < len(dealt) + WHOLE.lanes


def test_batches_of_every_step_cut_their_examples_anywhere():
    """Also those of the first step: lanes begin at different ids of their examples."""
    batch, _ = next(make_stream(NAME, ANYWHERE)(None))
    firsts = batch["tokens"][:, 0].tolist()
    assert set(firsts) != {EOS_ID}


def test_another_seed_gives_other_batches(config, batches):
    other, _ = next(make_stream(NAME, StreamConfig(**{**vars(config), "seed": 4}))(None))
    assert not np.array_equal(other["tokens"], batches[0][0]["tokens"])


def test_fill_is_what_the_batches_show(config, batches):
    shown = np.mean([batch["weights"].mean() for batch, _ in batches])
    assert make_stream(NAME, config).fill == pytest.approx(shown, abs=0.05)


def test_the_position_of_other_data_or_settings_is_refused(registered, batches, config):
    position = batches[0][1]
    for changed in ({"seed": 4}, {"batch_size": 16}, {"length": 80}):
        with pytest.raises(UserError, match="this run was begun with"):
            next(make_stream(NAME, StreamConfig(**{**vars(config), **changed}))(position))
    with pytest.raises(UserError, match="this run was begun with"):
        next(make_stream(NAME, config, ObjectiveConfig(rate=2.0))(position))


@pytest.mark.parametrize(
    "wrong",
    [{"length": 0}, {"lanes": 3}, {"packing": "tight"}, {"seed": -1}, {"chapter_steps": 0}, {"lookahead": 0}],
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(UserError):
        StreamConfig(**{**vars(WHOLE), **wrong})


def test_streams_that_cannot_be_are_user_errors():
    with pytest.raises(UserError, match="processes"):
        make_stream(NAME, WHOLE, process_count=3)
    with pytest.raises(UserError, match="no split"):
        make_stream(NAME, WHOLE, split="test")
    with pytest.raises(UserError, match="no task or mixture"):
        make_stream("nothing", WHOLE)


def test_blocks_begin_inside_images_only_if_asked_for():
    def share(config):
        steps = itertools.islice(make_stream(NAME, config)(None), 20)
        return np.mean([VOCABULARY.is_image(batch["tokens"][:, 0]) for batch, _ in steps])

    assert share(STRADDLE) == 0 and 0.3 < share(ANYWHERE) < 0.7
