"""Preparing: the same bytes every time, also after a kill; bad input left out and listed; neighbours by the rules."""

import dataclasses
import hashlib
import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from cm3leon_jax.data.prepare import PrepareConfig, parts, pipeline
from cm3leon_jax.data.prepare.pipeline import prepare
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.data.sources import BadExample, SourceExample
from cm3leon_jax.retrieval.memory_bank import MemoryBank
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary

CONFIG = PrepareConfig(
    examples_per_shard=16, batch_size=6, max_caption_tokens=5, num_sentinels=8, vocabulary_multiple_of=64
)
DIM = 8


def vector(*parts):
    """A unit vector that is a pure function of the parts."""
    seed = int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")
    values = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return values / np.linalg.norm(values)


@dataclasses.dataclass
class Words:
    """A token a word."""

    fingerprint: str = "words"
    size: int = 100

    def encode(self, text):
        return np.array([3 + len(word) for word in text.split() if word != "#"], np.int32)


@dataclasses.dataclass
class Means:
    """Four codes: the mean of each quarter of an 8x8 image."""

    fingerprint: str = "means"
    resolution: int = 8
    num_codes: int = 256
    grid: tuple = (2, 2)
    calls: int = 0

    def encode(self, images):
        self.calls += 1
        return images.reshape(-1, 2, 4, 2, 4, 3).mean((2, 4, 5)).astype(np.int32).reshape(-1, 4)


@dataclasses.dataclass
class Hashes:
    """Embeddings at random, equal for equal things; dropping makes others."""

    fingerprint: str = "hashes"
    dim: int = DIM

    def embed_texts(self, texts, drop_tokens=0.0, seed=0):
        return np.stack([vector(text, drop_tokens, seed * bool(drop_tokens)) for text in texts])

    def embed_images(self, images, drop_patches=0.0, seed=0):
        return np.stack([vector(image.tobytes(), drop_patches, seed * bool(drop_patches)) for image in images])

    def combine(self, text, image):
        mean = text + image
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def image_of(number):
    return np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)


class Split:
    """Example i has image and caption number `numbers[i]`; equal numbers are exact duplicates."""

    def __init__(self, name, numbers, captions=None, bad=()):
        self.name, self.numbers, self.captions_, self.bad = name, list(numbers), captions or {}, set(bad)

    @property
    def fingerprint(self):
        return repr((self.numbers, self.captions_, self.bad))

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        id = f"{self.name}/{index}"
        if index in self.bad:
            raise BadExample(id, "broken")
        number = self.numbers[index]
        return SourceExample(id, image_of(number), self.captions_.get(index, f"caption {number}"), {"number": number})


class Source:
    name = "numbers"
    splits = ("train", "validation")

    def __init__(self, train, validation=None):
        held_out = Split("validation", range(1000, 1007)) if validation is None else validation
        self._splits = {"train": train, "validation": held_out}

    def split(self, name):
        return self._splits[name]


def run(directory, source=None, *, text=None, image=None, retriever=None, config=CONFIG, **settings):
    source = source or Source(Split("train", range(50)))
    return prepare(source, text or Words(), image or Means(), retriever or Hashes(), directory, config, **settings)


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return run(tmp_path_factory.mktemp("prepared"))


def test_documents_are_what_the_models_say(prepared):
    assert prepared.vocabulary == Vocabulary(100, 256, 8, 64)
    assert prepared.manifest["image"] == {"grid": [2, 2], "resolution": 8}
    split = prepared.split("train")
    assert [len(prepared.split(name)) for name in prepared.splits] == [50, 7]
    assert [shard["documents"] for shard in prepared.manifest["splits"]["train"]["shards"]] == [16, 16, 16, 2]
    for index in (0, 15, 16, 49):
        document = split[index]
        assert (document.id, document.caption) == (f"train/{index}", f"caption {index}")
        assert document.metadata == {"number": index} and document.text.tolist() == [10, 3 + len(str(index))]
        fitted = image_of(index)[:, 1:9]
        assert np.array_equal(document.image, Means().encode(fitted[None])[0])
        np.testing.assert_allclose(document.text_embedding, vector(document.caption, 0.0, 0), atol=1e-3)
        np.testing.assert_allclose(document.image_embedding, vector(fitted.tobytes(), 0.0, 0), atol=1e-3)
    prepared.check(text="words", image="means", retriever="hashes")
    prepared.verify()


def test_neighbours_are_in_the_bank_and_nobody_finds_itself(prepared):
    bank = MemoryBank.load(prepared.memory_bank_directory, encoder_fingerprint="hashes")
    assert bank.count == 50 and prepared.manifest["memory_bank"]["recall_at_10"] == 1.0
    train = prepared.split("train")
    for split in prepared.splits:
        for index in range(len(prepared.split(split))):
            document = prepared.split(split)[index]
            assert len(document.neighbours_by_image) == len(document.neighbours_by_text) == 2
            for ids, scores in (
                (document.neighbours_by_image, document.scores_by_image),
                (document.neighbours_by_text, document.scores_by_text),
            ):
                assert ((ids >= 0) & (ids < 50)).all() and len(set(ids)) == 2
                assert scores[0] >= scores[1] and scores.max() <= 0.9
                if split == "train":
                    assert index not in ids
    # The bank's ids are places in the split.
    first = Hashes().combine(train[7].text_embedding[None], train[7].image_embedding[None])
    assert bank.search(first, 1)[0][0, 0] == 7


def test_held_out_documents_find_by_text_what_their_caption_alone_finds(prepared):
    bank = MemoryBank.load(prepared.memory_bank_directory)
    for index in range(7):
        document = prepared.split("validation")[index]
        ids, scores = bank.search(vector(document.caption, 0.0, 0)[None], 1)
        assert document.neighbours_by_text[0] == ids[0, 0]
        assert abs(document.scores_by_text[0] - scores[0, 0]) < 1e-3


def test_training_queries_are_varied_and_others_are_not(prepared, tmp_path):
    plain = run(tmp_path, config=dataclasses.replace(CONFIG, query_drop=0.0))
    for split, same in (("train", False), ("validation", True)):
        lists = [
            [data.split(split)[index].neighbours_by_text.tolist() for index in range(7)] for data in (prepared, plain)
        ]
        assert (lists[0] == lists[1]) is same


def test_running_twice_gives_the_same_bytes_and_the_second_time_in_place_does_nothing(prepared, tmp_path):
    run(tmp_path)
    assert contents(tmp_path) == contents(prepared.directory)
    (tmp_path / "notes.txt").write_text("mine")
    image = Means()
    run(tmp_path, image=image)
    assert image.calls == 0 and (tmp_path / "notes.txt").exists()


class Killed(BaseException):
    """Not an Exception, as a signal is not."""


@pytest.mark.parametrize(
    ("module", "name", "calls_before"),
    [
        (pipeline, "make_part", 2),
        (pipeline, "build_bank", 0),
        (pipeline, "write_shards", 0),
        (pipeline, "describe_shard", 2),
        (pipeline.os, "replace", None),
    ],
)
def test_a_killed_run_continues(prepared, tmp_path, monkeypatch, module, name, calls_before):
    image, calls, original = Means(), [], getattr(module, name)

    def killed(*arguments, **options):
        calls.append(arguments)
        if calls_before is None and str(arguments[1]) == str(tmp_path / "memory_bank"):
            raise Killed
        if len(calls) - 1 == calls_before:
            raise Killed
        return original(*arguments, **options)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(module, name, killed)
        run(tmp_path, image=image)
    with pytest.raises(UserError, match="no manifest"):
        PreparedData(tmp_path)
    before = image.calls
    run(tmp_path, image=image)
    assert contents(tmp_path) == contents(prepared.directory)
    # Batches of 6: the parts of 16, 16, 16, 2 and 7 examples take 3, 3, 3, 1 and 2.
    assert (before, image.calls) == ((6, 12) if name == "make_part" else (12, 12))


def test_a_kill_within_the_shards_keeps_those_that_are_whole(prepared, tmp_path, monkeypatch):
    from cm3leon_jax.data.prepare import neighbours

    written, original = [], neighbours.write_shard

    def write_shard(path, records):
        if len(written) == 2:
            raise Killed
        written.append(path.name)
        original(path, records)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(neighbours, "write_shard", write_shard)
        run(tmp_path)
    monkeypatch.setattr(
        neighbours, "write_shard", lambda path, records: (written.append(path.name), original(path, records))
    )
    run(tmp_path)
    assert len(written) == len(set(written)) == 5
    assert contents(tmp_path) == contents(prepared.directory)


def test_unfinished_work_for_other_inputs_is_not_continued(prepared, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(pipeline, "build_bank", lambda *_: (_ for _ in ()).throw(Killed()))
        run(tmp_path, image=Means(fingerprint="other"))
    run(tmp_path)
    assert contents(tmp_path) == contents(prepared.directory)


def test_other_models_replace_an_old_result(prepared, tmp_path):
    run(tmp_path, Source(Split("train", range(60, 180))))
    data = run(tmp_path)
    assert contents(tmp_path) == contents(prepared.directory)
    with pytest.raises(UserError, match="another image tokenizer"):
        data.check(image="other")


def test_bad_examples_and_duplicates_are_left_out_and_listed(tmp_path):
    train = Split(
        "train", [*range(20), 3, 4], captions={5: "one two three four five six", 6: "#", 21: "another"}, bad=[0, 19]
    )
    validation = Split("validation", [1000, 7, 1000])
    data = run(tmp_path, Source(train, validation), config=dataclasses.replace(CONFIG, max_bad_share=0.2))
    rows = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    reasons = {row["id"]: row["reason"] for row in rows}
    assert reasons["train/0"] == reasons["train/19"] == "broken"
    assert "6 tokens, more than 5" in reasons["train/5"] and "no tokens" in reasons["train/6"]
    assert reasons["train/20"] == "the same image and caption as train/3"
    assert reasons["validation/1"] == "the same image and caption as train/7"
    assert reasons["validation/2"] == "the same image and caption as validation/0" and len(rows) == 7
    assert data.manifest["quarantined"] == 4 and data.manifest["duplicates"] == 3
    ids = [data.split("train")[index].id for index in range(len(data.split("train")))]
    assert ids == [f"train/{index}" for index in range(22) if index not in (0, 5, 6, 19, 20)]
    assert len(data.split("validation")) == 1
    bank = MemoryBank.load(data.memory_bank_directory)
    assert bank.count == 17


def test_too_much_bad_input_stops(tmp_path):
    source = Source(Split("train", range(50), bad=range(20, 30)))
    with pytest.raises(UserError, match=r"10 of 57 examples .* train/20: broken") as error:
        run(tmp_path, source)
    assert "\n" not in str(error.value)
    listed = str(error.value).split("listed in ")[1].split(",")[0]
    assert len(pathlib.Path(listed).read_text().splitlines()) == 10
    assert len(run(tmp_path, source, config=dataclasses.replace(CONFIG, max_bad_share=0.5)).split("train")) == 40


def test_nothing_to_train_on_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no usable example in its split 'train'"):
        run(tmp_path, Source(Split("train", [])))


def test_a_split_and_a_shard_may_be_empty(tmp_path):
    source = Source(Split("train", range(40), bad=range(16, 32)), Split("validation", []))
    data = run(tmp_path, source, config=dataclasses.replace(CONFIG, max_bad_share=0.5))
    assert len(data.split("validation")) == 0
    assert [data.split("train")[index].id for index in (15, 16)] == ["train/15", "train/32"]


def test_fewer_neighbours_where_the_rules_leave_none(tmp_path):
    data = run(tmp_path, Source(Split("train", range(2))), selection=SelectionConfig(by_image=1, by_text=1))
    for index in (0, 1):
        document = data.split("train")[index]
        found = [*document.neighbours_by_image, *document.neighbours_by_text]
        assert found == [1 - index] and -1 not in found


def test_a_real_folder(tmp_path):
    from cm3leon_jax.data.sources import open_source

    (tmp_path / "in").mkdir()
    for number in range(30):
        PIL.Image.fromarray(image_of(number)).save(tmp_path / "in" / f"{number:02d}.png")
        (tmp_path / "in" / f"{number:02d}.txt").write_text(f"caption {number}")
    (tmp_path / "in" / "00.png").write_bytes(b"")
    data = run(tmp_path / "out", open_source(f"folder:{tmp_path / 'in'}", validation_share=0.2, test_share=0.2))
    assert data.splits == ("train", "validation", "test") and data.manifest["quarantined"] == 1
    assert sum(len(data.split(name)) for name in data.splits) == 29


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"query_drop": 1.5}, {"max_bad_share": -1}])
def test_settings_out_of_range_are_user_errors(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        PrepareConfig(**bad)


def test_reading_ahead_does_not_hold_the_split(monkeypatch):
    """At most two batches of decoded examples wait."""
    read = []

    class Watched(Split):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    models = parts.Models(Words(), Means(), Hashes())
    items = parts._read_ahead(Watched("train", range(100)), range(100), models, CONFIG)
    next(items)
    assert len(read) <= 2 * CONFIG.batch_size
    items.close()
