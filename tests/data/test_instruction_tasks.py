"""Fine-tuning tasks: prepared from JSON lines, worded, masked, mixed, streamed."""

import dataclasses
import json

import numpy as np
import PIL.Image
import prepare_fakes
import pytest
import seqio

from cm3leon_jax.data.held_out import Batching, answer_batches
from cm3leon_jax.data.instruction_tasks import find_sources, finetuning_mixture, mixing_rates, task_rates
from cm3leon_jax.data.objective import Objective, ObjectiveConfig
from cm3leon_jax.data.prepare.config import PrepareConfig
from cm3leon_jax.data.prepare.job import Models, NoRetriever
from cm3leon_jax.data.prepare.pipeline import prepare
from cm3leon_jax.data.preprocessors import example_of
from cm3leon_jax.data.random_access import RandomAccess
from cm3leon_jax.data.settings import FinetuningConfig, StreamConfig
from cm3leon_jax.data.sources import open_source
from cm3leon_jax.data.stream import make_stream
from cm3leon_jax.documents import parse
from cm3leon_jax.instructions.tasks import TASKS
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import EOS_ID

WORDS = prepare_fakes.Words()
NAME = "finetuning_test"
QUESTIONS, EDITS = 40, 10


def prepared(spec, directory, validation_share=0.0):
    return prepare(
        lambda: open_source(spec, validation_share=validation_share, test_share=0),
        lambda: Models(WORDS, prepare_fakes.Means(), NoRetriever()),
        directory,
        PrepareConfig(num_sentinels=8, vocabulary_multiple_of=8),
    )


def write_images(root, count):
    for number in range(count):
        PIL.Image.fromarray(prepare_fakes.image_of(number)).save(root / f"{number}.png")


@pytest.fixture
def images(tmp_path):
    """A folder with pictures 0.png to 2.png."""
    (tmp_path / "images").mkdir()
    write_images(tmp_path / "images", 3)
    return tmp_path / "images"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Questions ("how many 3?" "xxx" of picture 3), and pairs of pictures."""
    root = tmp_path_factory.mktemp("instructions")
    write_images(root, QUESTIONS + EDITS)
    questions = [
        {
            "id": number,
            "parts": [{"text": "how many"}, {"text": "x" * (1 + number)}, {"image": f"{number}.png"}],
            "answers": [1],
        }
        for number in range(QUESTIONS)
    ]
    edits = [
        {"parts": [{"text": "edit"}, {"image": f"{number}.png"}, {"text": "so"}, {"image": "0.png"}], "answers": [3]}
        for number in range(QUESTIONS, QUESTIONS + EDITS)
    ]
    bad = [{"parts": [{"text": "a"}], "answers": [4]}, {"parts": [{"text": "a"}, {"image": "../a"}], "answers": []}]
    for name, rows in (("questions", questions + bad), ("edits", edits)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = f"documents:{root}/questions.jsonl + documents:{root}/edits.jsonl"
    return prepared(spec, root / "prepared", validation_share=0.2)


@pytest.fixture
def mixture(data):
    def register(config=None):
        return finetuning_mixture(NAME, [data], config or FinetuningConfig(), WORDS)

    return register


def test_prepared_without_a_retriever(data):
    assert data.manifest["memory_bank"] is None and data.manifest["quarantined"] == 2
    assert len(data.split("train")) > 25 and len(data.split("train.interleaved")) > 5
    with pytest.raises(UserError, match="prepared without a retriever"):
        _ = data.memory_bank_directory


def test_each_source_is_a_task(data):
    names = [(task.name, task.examples) for task in find_sources([data])]
    assert [name for name, _ in names] == ["parts.documents.0", "parts.documents.1"]
    assert [count for _, count in names] == [len(data.split("train")), len(data.split("train.interleaved"))]


def test_random_access_gives_what_seqio_gives(data, mixture):
    with mixture():
        for task in ("parts.documents.0", "parts.documents.1"):
            registered = seqio.TaskRegistry.get(f"{NAME}.{task}")
            dataset = registered.get_dataset({"tokens": 300}, "train", shuffle=False, seed=3, num_epochs=2)
            alone = RandomAccess(registered, "train")
            for place, example in enumerate(dataset.as_numpy_iterator()):
                expected, found = alone.example(3, *divmod(place, len(alone))), example_of(example)
                np.testing.assert_array_equal(found.ids, expected.ids)
                assert (found.key, found.answers) == (expected.key, expected.answers) and found.answers
            assert place + 1 == 2 * len(alone)


def test_sequences_hold_the_documents(data, mixture):
    with mixture():
        task = RandomAccess(seqio.TaskRegistry.get(f"{NAME}.parts.documents.1"), "train")
        for index in range(len(task)):
            first, second = parse(task.example(0, 0, index).ids, data.vocabulary)
            assert first.text.tolist() == [7] and second.text.tolist() == [5]  # "edit", "so"
            assert len(first.image) == len(second.image) == 4


def test_answers_are_hidden_as_often_as_asked(data, mixture):
    """Without other masks and with a probability of 1, each example hides just its answer."""
    objective = ObjectiveConfig(mode="fixed", rate=0, answer_probability=1.0)
    with mixture():
        task = RandomAccess(seqio.TaskRegistry.get(f"{NAME}.parts.documents.0"), "train")
        vocabulary = task.vocabulary
        for index in range(len(task)):
            ids = Objective(vocabulary, objective).hide_in_example(task.example(0, 0, index), 100).ids
            (answer,) = [int(i) for i in parse(ids, vocabulary)[0].text[2:]]
            assert ids.tolist()[-5:] == [
                *ids.tolist()[-5:-4],
                vocabulary.sentinel_id(0),
                answer,
                vocabulary.eoss_id,
                EOS_ID,
            ]


def test_loss_on_answers_alone(data, mixture):
    with mixture():
        objective, vocabulary = Objective(data.vocabulary, answers_alone=True), data.vocabulary
        asked, edited = (
            objective.hide_in_example(
                RandomAccess(seqio.TaskRegistry.get(f"{NAME}.{task}"), "train").example(0, 0, 0), 99
            )
            for task in ("parts.documents.0", "parts.documents.1")
        )
        scored = asked.ids[asked.scored]
        assert len(scored) == 2 and vocabulary.is_text(scored[:1]).all() and scored[1] == vocabulary.eoss_id
        assert np.flatnonzero(edited.scored).tolist() == list(range(len(edited.ids) - 5, len(edited.ids)))
        alone = {"objective": ObjectiveConfig(), "answers_alone": True}
        batch, _ = next(make_stream(NAME, StreamConfig(length=64, batch_size=2, lanes=2, packing="whole"), **alone)())
        assert 0 < batch["weights"].sum() < (batch["segments"] > 0).sum() / 2
        straddled, _ = next(make_stream(NAME, StreamConfig(length=64, batch_size=2, lanes=2), **alone)())
        assert 0 < straddled["weights"].mean() < 0.5


def test_held_out_answers(data):
    found = answer_batches([data], "validation", Batching(length=32, batch_size=2), text_tokenizer=WORDS)
    (task, *_) = find_sources([data])
    count = task.source.num_input_examples("validation")
    # An answer of one word and <eoss> each.
    assert sum(row["weights"].sum() for row in found["parts.documents.0"]) == 2 * count > 0


@pytest.mark.parametrize(
    ("examples", "weights", "expected"),
    [
        ([100, 100], [None, None], [100, 100]),
        ([1000, 10, 490], [None] * 3, [500, 30, 490 * 500 / 490]),  # a mean of 500: 10 are used three times, not 50
        ([10_000, 10], [None] * 2, [0.5005 * 10_000, 30]),
        ([100_000, 10, 10, 10], [None] * 4, [30_000, 30, 30, 30]),
        ([100, 300], [0.25, 0.75], [50, 150]),
    ],
)
def test_rates(examples, weights, expected):
    np.testing.assert_allclose(mixing_rates(examples, weights, FinetuningConfig()), expected)


def test_the_papers_mixture_is_capped():
    """Its 15 data sets: the largest an example in three times, the smallest three times an example."""
    sizes = {name: task.examples for name, task in TASKS.items()}
    rates = dict(zip(sizes, mixing_rates(list(sizes.values()), [None] * len(sizes), FinetuningConfig()), strict=True))
    uses = {name: rates[name] / sizes[name] for name in sizes}
    assert uses["science"] == uses["paragraph"] == 3 and uses["ground"] == 0.3
    assert all(0.3 <= use <= 3 for use in uses.values())


def test_documents_of_two_kinds_share_what_their_source_is_due(tmp_path, images):
    question = {"parts": [{"text": "a"}, {"text": "xx"}, {"image": "1.png"}], "answers": [1]}
    edit = {"parts": [{"text": "edit"}, {"image": "1.png"}, {"text": "so"}, {"image": "2.png"}], "answers": [3]}
    rows = {"both": [question] * 6 + [edit] * 2, "one": [question | {"id": n} for n in range(24)]}
    for name, each in rows.items():
        lines = [
            json.dumps(row | {"parts": [{"text": f"{name} {n}"}, *row["parts"][1:]]}) for n, row in enumerate(each)
        ]
        (images / f"{name}.jsonl").write_text("\n".join(lines))
    spec = f"0.5*documents:{images}/both.jsonl + 0.5*documents:{images}/one.jsonl"
    data = prepared(spec, tmp_path / "prepared")
    tasks = find_sources([data])
    rates = np.array(task_rates(tasks, FinetuningConfig()))
    assert [task.examples for task in tasks] == [6, 2, 24]
    np.testing.assert_allclose(rates / rates.sum(), [0.375, 0.125, 0.5])


def test_more_answers_than_sentinels_end_in_one_line(tmp_path, images):
    row = {"parts": [*[{"text": "a"}] * 9, {"image": "1.png"}], "answers": list(range(9))}
    (images / "many.jsonl").write_text(json.dumps(row))
    data = prepared(f"documents:{images}/many.jsonl", tmp_path / "prepared", validation_share=0.999)
    with pytest.raises(UserError, match="the answers of an instruction cannot be hidden"):
        answer_batches([data], "validation", Batching(length=64, batch_size=1), text_tokenizer=WORDS)


def test_documents_that_are_no_instructions(tmp_path):
    from prepared_folder import write_prepared

    sources = [{"name": "folder:x", "weight": None, "splits": {"train": [0, 4]}}]
    write_prepared(tmp_path, train=4, sources=sources)
    from cm3leon_jax.data.shards import PreparedData

    with pytest.raises(UserError, match="train0 is no instruction"):
        find_sources([PreparedData(tmp_path)])


def test_a_column_called_instruction_is_a_users_own(images):
    (images / "captions.jsonl").write_text('{"image": "1.png", "caption": "x", "instruction": "make it night"}\n')
    source = open_source(f"folder:{images}", validation_share=0, test_share=0)
    assert list(source.split("train").captions()) == ["x"]
    assert source.split("train")[0].metadata["instruction"] == "make it night"


def test_held_out_answers_of_a_published_split(tmp_path, images):
    """A source that is all validation has no examples to train on."""
    for name in ("train", "validation"):
        row = {"parts": [{"text": name}, {"text": "xx"}, {"image": "1.png"}], "answers": [1]}
        (images / f"{name}.jsonl").write_text(json.dumps(row))
    train = prepared(f"documents:{images}/train.jsonl", tmp_path / "train")
    held_out = prepared(f"documents:{images}/validation.jsonl", tmp_path / "validation", validation_share=0.999)
    assert find_sources([held_out]) == []
    found = answer_batches([train, held_out], "validation", Batching(length=32, batch_size=1), text_tokenizer=WORDS)
    assert [len(rows) for rows in found.values()] == [1]


def test_instructions_that_do_not_fit_a_row_are_left_out(data, mixture):
    config = StreamConfig(length=12, batch_size=4, lanes=2, packing="whole", chapter_steps=4)
    with mixture():
        stream = make_stream(NAME, config, ObjectiveConfig(), answers_alone=True)
        longest = [len(task.example(0, 0, index).ids) - 1 for task in stream._tasks for index in range(len(task))]
        assert 0.2 < stream.left_out < 1 and max(longest) > config.length
        batch, _ = next(stream())
        for segment_row, weights in zip(batch["segments"], batch["weights"], strict=True):
            for segment in range(1, segment_row.max() + 1):
                assert weights[segment_row == segment].any()  # its answer is there
        with pytest.raises(UserError, match="no instruction fits into a row of 4 tokens"):
            make_stream(NAME, dataclasses.replace(config, length=4), ObjectiveConfig())
    with pytest.raises(UserError, match=r"no held-out example of parts.documents.0 fits into a row of 4 tokens"):
        answer_batches([data], "validation", Batching(length=4, batch_size=1), text_tokenizer=WORDS)


def test_settings():
    for wrong in ({"loss": "half"}, {"most_repeats": 0.5}, {"least_repeats": 0}):
        with pytest.raises(UserError):
            FinetuningConfig(**wrong)
