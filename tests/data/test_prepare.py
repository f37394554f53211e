"""Preparing: the same bytes every time, also after a kill; bad input left out and listed; neighbours by the rules."""

import dataclasses
import functools
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepare_fakes import Hashes, Means, Source, Split, Words, image_of, models, numbers, vector

from cm3leon_jax.data.prepare import PrepareConfig, bank, clusters, duplicates, making, parts, pipeline, shards
from cm3leon_jax.data.prepare.config import Settings
from cm3leon_jax.data.prepare.job import Job, Models
from cm3leon_jax.data.prepare.pipeline import prepare
from cm3leon_jax.data.prepare.summary import summary
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.data.sources import open_source
from cm3leon_jax.retrieval.memory_bank import MemoryBank, MemoryBankConfig
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary

CONFIG = PrepareConfig(
    examples_per_shard=16, batch_size=6, max_caption_tokens=5, num_sentinels=8, vocabulary_multiple_of=64
)


def png(number):
    file = io.BytesIO()
    PIL.Image.fromarray(image_of(number)).save(file, "PNG")
    return file.getvalue()


BANK = MemoryBankConfig(documents_per_shard=20)  # two shards of a bank of 50


def run(directory, source=None, *, opener=None, image=None, config=CONFIG, **settings):
    used = Models(Words(), image or Means(), Hashes())
    return prepare(
        opener or (lambda: source or numbers()), lambda: used, directory, config, memory_bank=BANK, **settings
    )


class NoMore(Means):
    def encode(self, images):
        raise AssertionError("encoded again")


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


def test_too_few_documents_are_not_calibrated_on(prepared):
    assert prepared.manifest["similarity"] == {
        "threshold": None, "text_threshold": None, "documents": 0, "struck": 0, "lost": 0,
    }  # fmt: skip
    assert prepared.selection == SelectionConfig()
    assert "too few documents to calibrate on" in summary(prepared)


def test_the_similarity_is_calibrated_and_kept_with_the_data(tmp_path, capsys):
    source = Source(Split("train", range(260)), Split("validation", range(900, 905)))
    data = run(tmp_path, source)
    found = data.manifest["similarity"]
    assert found["documents"] == 260 and -1 <= found["threshold"] <= 1
    assert (data.selection.threshold, data.selection.text_threshold) == (found["threshold"], found["text_threshold"])
    assert data.manifest["settings"]["selection"]["threshold"] is None  # as was asked for
    assert "95% of near copies of 260 documents" in capsys.readouterr().out
    # Hashes have nothing to do with what is seen: copies are like any others, and all that is found is struck.
    assert found["struck"] > 0 and found["lost"] / 260 > 0.1
    assert "warning: " in summary(data) and "calibrated for this retriever" in summary(data)


def test_what_is_set_is_not_calibrated(tmp_path, capsys):
    source = Source(Split("train", range(260)))
    data = run(tmp_path, source, selection=SelectionConfig(threshold=0.9, text_threshold=0.8))
    assert data.manifest["similarity"]["documents"] == 0 and "similarity" not in capsys.readouterr().out
    assert (data.selection.threshold, data.selection.text_threshold) == (0.9, 0.8)
    assert "0.900, as set" in summary(data)


def test_data_prepared_before_there_was_such_a_number_is_read(prepared, tmp_path):
    shutil.copytree(prepared.directory, tmp_path / "old")
    manifest = json.loads((tmp_path / "old/manifest.json").read_text())
    del manifest["similarity"]
    manifest["settings"]["selection"] = {"by_image": 2, "by_text": 2, "threshold": 0.9, "duplicate": 0.9999,
                                         "candidates": 32, "max_candidates": 1024}  # fmt: skip
    (tmp_path / "old/manifest.json").write_text(json.dumps(manifest))
    assert PreparedData(tmp_path / "old").selection == SelectionConfig(threshold=0.9, text_threshold=0.9)


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


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("module", "name", "calls_before"),
    [
        (making, "_run_models", 7),
        (clusters, "_save", 5),
        (duplicates, "write_json", 0),
        (bank, "build_shard", 1),
        (shards, "write_shard", 2),
        (shards, "describe_shard", 3),
        (pipeline, "remove", 2),
        (pipeline.os, "replace", None),
    ],
)
def test_a_killed_run_continues(prepared, tmp_path, monkeypatch, module, name, calls_before):
    """Each stage ended by an error in the middle; what was whole by then is not made again."""
    image, calls, original = Means(), [], getattr(module, name)

    def killed(*arguments, **options):
        calls.append(arguments)
        if calls_before is None and str(arguments[1]) == str(tmp_path / "memory_bank"):
            raise Killed
        if len(calls) - 1 == calls_before:
            raise Killed
        return original(*arguments, **options)

    with monkeypatch.context() as patched, pytest.raises((Killed, RuntimeError)):
        patched.setattr(module, name, killed)
        run(tmp_path, image=image)
    with pytest.raises(UserError, match="no manifest"):
        PreparedData(tmp_path)
    before = image.calls
    run(tmp_path, image=image)
    assert contents(tmp_path) == contents(prepared.directory)
    # Batches of 6: the parts of 16, 16, 16, 2 and 7 examples take 3, 3, 3, 1 and 2.
    assert (before, image.calls) == ((7, 7 + 12 - 6) if name == "_run_models" else (12, 12))


def test_a_kill_within_the_shards_keeps_those_that_are_whole(prepared, tmp_path, monkeypatch):
    written, original = [], shards.write_shard

    def write_shard(path, records):
        if len(written) == 2:
            raise Killed
        written.append(path.name)
        original(path, records)

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(shards, "write_shard", write_shard)
        run(tmp_path)
    monkeypatch.setattr(
        shards, "write_shard", lambda path, records: (written.append(path.name), original(path, records))
    )
    run(tmp_path)
    assert len(written) == len(set(written)) == 5
    assert contents(tmp_path) == contents(prepared.directory)


SEVERAL = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.mark.parametrize(
    ("runner", "options"),
    [
        ("DirectRunner", SEVERAL),
        ("PortableRunner", ("--job_endpoint=embed", "--environment_type=LOOPBACK", "--sdk_worker_parallelism=2")),
    ],
)
def test_other_workers_give_the_same_bytes(prepared, tmp_path, monkeypatch, capfd, runner, options):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path, os.path.dirname(__file__)]))
    prepare(numbers, models, tmp_path, CONFIG, memory_bank=BANK, runner=runner, runner_options=options)
    assert contents(tmp_path) == contents(prepared.directory)
    assert runner != "DirectRunner" or "INFO" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("first_file", "options"),
    [
        ("parts/?????", SEVERAL),
        ("parts/?????", ()),
        ("duplicates/candidates-?.npy", ()),
        ("duplicates/done.json", ()),
        ("memory_bank/shard-?????", ()),
        ("shards/*.json", ()),
    ],
)
def test_kill_9_in_each_stage_then_continue(prepared, tmp_path, first_file, options):
    """Killed as soon as a stage has left its first file; each piece of work is slowed down, so that more is to come."""
    script = textwrap.dedent(
        f"""
        import time
        import prepare_fakes
        from cm3leon_jax.data.prepare import bank, clusters, shards
        from test_prepare import BANK, CONFIG, prepare

        def slow(function):
            return lambda *arguments, **options: (function(*arguments, **options), time.sleep(0.5))[0]

        if __name__ == "__main__":
            bank.build_shard, shards.write_shard = slow(bank.build_shard), slow(shards.write_shard)
            clusters.candidates = slow(clusters.candidates)
            prepare(
                prepare_fakes.numbers, prepare_fakes.slow_models, {str(tmp_path)!r}, CONFIG, memory_bank=BANK,
                runner_options={options!r},
            )
        """
    )
    path = os.pathsep.join([*sys.path, os.path.dirname(__file__)])
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path}, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(f".unfinished/{first_file}")) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "manifest.json").exists() and list(tmp_path.glob(f".unfinished/{first_file}"))
    run(tmp_path)
    assert contents(tmp_path) == contents(prepared.directory)


def test_an_error_of_a_worker_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts.Rows, "write", full)
    with pytest.raises(UserError, match=r"no space left for .*what is done is kept") as error:
        run(tmp_path)
    assert "\n" not in str(error.value)


def test_an_unknown_runner_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="Beam cannot run on 'NoRunner'"):
        run(tmp_path, runner="NoRunner")


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
    train = Split("train", [*range(20), 3, 21], captions={5: "one two three four five six", 6: "#"}, bad=[0, 19])
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


class Brighter(Split):
    """From example 20 on, images are brighter by a level."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        brighter = np.minimum(example.image, 254) + (index >= 20)
        return dataclasses.replace(example, image=brighter.astype(np.uint8))


@pytest.mark.parametrize(
    ("near_copies", "expected"),
    [
        (
            "leave_out",
            {"train/20": ("near copy, same caption", "train/3"), "train/21": ("near copy, other caption", "train/4")},
        ),
        ("same_caption", {"train/20": ("near copy, same caption", "train/3")}),
        ("keep", {}),
    ],
)
def test_near_copies_are_left_out(tmp_path, near_copies, expected):
    """The same images once more, one with the same words, one with others."""
    source = Source(Brighter("train", [*range(20), 3, 4], {20: "Caption 3!", 21: "another thing"}))
    data = run(tmp_path, source, config=dataclasses.replace(CONFIG, near_copies=near_copies))
    rows = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert {row["id"]: (row["kind"], row["kept"]) for row in rows} == expected
    assert all(row["kept"] in row["reason"] for row in rows)
    assert data.manifest["duplicates"] == len(expected) and data.manifest["quarantined"] == 0
    assert sum(data.manifest["duplicates_by_kind"].values()) == len(expected)
    assert len(data.split("train")) == 22 - len(expected)
    table = summary(data)
    assert all(f"… {kind}" in table for kind, _ in expected.values())


@pytest.mark.parametrize("held_out_copies", ["leave_out", "keep"])
def test_what_is_held_out_never_meets_its_own_image(tmp_path, held_out_copies):
    """Five validation images are training images byte by byte, and three are nearly: all with other captions."""
    captions = {index: f"held out {index}" for index in range(28)}
    validation = Brighter("validation", [*range(5), *range(1000, 1015), 5, 6, 7], captions)
    config = dataclasses.replace(CONFIG, held_out_copies=held_out_copies)
    data = run(tmp_path, Source(Split("train", range(40)), validation), config=config)
    held_out = [data.split("validation")[index] for index in range(len(data.split("validation")))]
    if held_out_copies == "leave_out":
        assert data.manifest["duplicates_by_kind"] == {"held out, image trained on": 8}
        assert [document.metadata["number"] for document in held_out] == list(range(1000, 1015))
    else:  # they are searched for, and never find themselves
        assert len(held_out) == 23 and not data.manifest["duplicates"]
        settled = dataclasses.replace(SelectionConfig(), threshold=0.9)
        again = run(tmp_path / "known", Source(Split("train", range(40)), validation), config=config, selection=settled)
        for index in range(5):
            document = again.split("validation")[index]
            found = [*document.neighbours_by_image, *document.neighbours_by_text]
            own = np.mean([document.text_embedding, document.image_embedding], axis=0)
            for place in found:
                other = again.split("train")[int(place)]
                whole = np.mean([other.text_embedding, other.image_embedding], axis=0)
                assert own @ whole / np.linalg.norm(own) / np.linalg.norm(whole) <= 0.9 + 1e-3


def test_only_an_image_with_a_caption_is_nearly_another(tmp_path):
    """Edits of one picture in the same words, and texts of the same words, are different documents."""
    for number in range(3):
        PIL.Image.fromarray(image_of(number)).save(tmp_path / f"{number}.png")
    edits = [[{"image": "0.png"}, {"text": "so"}, {"image": f"{number}.png"}] for number in (1, 2)]
    rows = [*edits, [{"text": "x = a + b"}], [{"text": "x = a - b"}], [{"text": "pair"}, {"image": "0.png"}]]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"parts": parts}) + "\n" for parts in rows))
    opener = functools.partial(open_source, f"documents:{tmp_path}/d.jsonl", validation_share=0, test_share=0)
    data = run(tmp_path / "out", opener=opener)
    assert data.manifest["duplicates"] == 0
    assert [len(data.split(f"train{kind}")) for kind in ("", ".text", ".interleaved")] == [1, 2, 2]


def test_an_image_may_have_several_captions(tmp_path):
    """As the source gives them: the second image is the first one again, without such a claim."""
    for name, number in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        PIL.Image.fromarray(image_of(number)).save(tmp_path / name)
    rows = [("a.png", "one"), ("a.png", "two"), ("b.png", "three"), ("a.png", "ONE."), ("c.png", "else")]
    lines = [json.dumps({"image": image, "caption": caption}) for image, caption in rows]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    opener = functools.partial(open_source, f"folder:{tmp_path}", validation_share=0, test_share=0)
    data = run(tmp_path / "out", opener=opener)
    documents = [data.split("train")[index] for index in range(len(data.split("train")))]
    assert [document.caption for document in documents] == ["one", "two", "else"]
    assert data.manifest["duplicates_by_kind"] == {"near copy, same caption": 1, "near copy, other caption": 1}
    # Each is found by the other's image, and is no neighbour of it.
    assert [document.same_image.tolist() for document in documents] == [[1], [0], []]
    for document in documents[:2]:
        assert {*document.neighbours_by_image.tolist(), *document.neighbours_by_text.tolist()} == {2}


def test_equal_names_in_two_sources_are_not_one_image(tmp_path):
    for name, level in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        image = np.minimum(image_of(0), 254) + level
        PIL.Image.fromarray(image.astype(np.uint8)).save(tmp_path / name / "0.png")
        (tmp_path / name / "0.txt").write_text(f"seen by {name}")
    spec = f"folder:{tmp_path}/a + folder:{tmp_path}/b"
    data = run(tmp_path / "out", opener=functools.partial(open_source, spec, validation_share=0, test_share=0))
    assert data.manifest["duplicates_by_kind"] == {"near copy, other caption": 1}


def test_a_duplicate_names_what_stays(tmp_path):
    """The second is a near copy of the first, the third is the second again."""
    source = Source(Brighter("train", [*range(20), 3, 3], {20: "another", 21: "another"}))
    run(tmp_path, source)
    rows = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["id"], row["kept"]) for row in rows] == [("train/20", "train/3"), ("train/21", "train/3")]


def test_recall_is_measured_with_documents_of_all_parts(tmp_path, monkeypatch):
    asked, parts_of = [], {}
    build, kept = bank.build_shard, bank.kept_documents

    def recorded(job, shard, split):
        parts_of[shard] = kept(job, shard, split)
        return parts_of[shard]

    monkeypatch.setattr(bank, "kept_documents", recorded)
    monkeypatch.setattr(bank, "build_shard", lambda *a, **b: (asked.extend(b["sample_queries"]), build(*a, **b)))
    used, memory_bank = Models(Words(), Means(), Hashes()), MemoryBankConfig(documents_per_shard=100, recall_queries=3)
    prepare(numbers, lambda: used, tmp_path, CONFIG, memory_bank=memory_bank)
    whose = [
        next(
            shard
            for shard, part in parts_of.items()
            if (np.concatenate([part.queries_by_image, part.queries_by_text]) == query).all(axis=1).any()
        )
        for query in asked
    ]
    assert len(parts_of) == 4 and len(whose) == len(set(whose)) == 3


def test_equal_ids_in_two_files(tmp_path):
    """Files are read apart from each other, by several workers; of documents with one id the first stays. The last file
    has the documents of the one before it."""
    (tmp_path / "in").mkdir()
    for file, name, number in (("1", "a", 0), ("2", "b", 100), ("3", "b", 100)):
        rows = [{"image": png(number + row), "caption": f"{name} {row}", "id": f"{row % 30}"} for row in range(32)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in" / f"{file}.parquet")
    opener = functools.partial(open_source, f"parquet:{tmp_path / 'in'}?id=id")
    data = run(tmp_path / "out", opener=opener, config=dataclasses.replace(CONFIG, max_bad_share=0.2))
    rows = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    reasons = [row["reason"].split(" ", 2)[2] for row in rows]
    assert sum(len(data.split(name)) for name in data.splits) == 30 and len(rows) == 66
    assert set(reasons) == {f"'{number}' was there before" for number in range(30)}
    assert (data.manifest["quarantined"], data.manifest["duplicates"]) == (6, 60)
    assert all(data.split("train")[index].caption.startswith("a") for index in range(len(data.split("train"))))


def test_shards_of_files_and_of_ranges_hold_the_same_documents(tmp_path):
    (tmp_path / "in").mkdir()
    for name, numbers_ in (("a", range(20)), ("b", range(20, 45))):
        with tarfile.open(tmp_path / "in" / f"{name}.tar", "w") as tar:
            for number in numbers_:
                for suffix, content in (("png", png(number)), ("txt", f"caption {number}".encode())):
                    member = tarfile.TarInfo(f"{number}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    opener = functools.partial(open_source, f"webdataset:{tmp_path / 'in'}", validation_share=0.2, test_share=0.2)
    data = run(tmp_path / "out", opener=opener)
    assert data.splits == ("train", "validation", "test")
    assert [len(data.manifest["splits"][name]["shards"]) for name in data.splits] == [2, 2, 2]
    source = opener()
    for name in data.splits:
        split = data.split(name)
        assert [split[index].caption for index in range(len(split))] == list(source.split(name).captions())
    assert sum(len(data.split(name)) for name in data.splits) == 45


def test_documents_and_pairs_of_several_sources_with_weights(tmp_path):
    (tmp_path / "a").mkdir()
    rows = []
    for number in range(12):
        (tmp_path / "a" / f"{number}.png").write_bytes(png(number))
        pair = [{"text": f"caption {number}"}, {"image": f"{number}.png"}]
        rows += [{"parts": pair}, {"parts": [{"text": f"only text {number}"}]}, {"parts": [*pair, *pair]}]
    (tmp_path / "a" / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b").mkdir()
    for number in range(100, 120):
        (tmp_path / "b" / f"{number}.png").write_bytes(png(number))
        (tmp_path / "b" / f"{number}.txt").write_text(f"caption {number}")
    spec = f"3*documents:{tmp_path / 'a'} + 1*folder:{tmp_path / 'b'}"
    data = run(tmp_path / "out", opener=functools.partial(open_source, spec, validation_share=0.2, test_share=0.0))
    splits = {name: data.split(name) for name in data.splits}
    documents = {name: [split[index] for index in range(len(split))] for name, split in splits.items()}
    assert sum(len(documents[f"{name}.text"]) for name in ("train", "validation")) == 12
    for document in documents["train.text"]:
        assert document.caption.startswith("only text") and not len(document.image) and not document.following
        assert document.text_embedding.any() and not document.image_embedding.any()
    for document in documents["train.interleaved"]:
        (first, second) = document.documents
        assert len(document.neighbours_by_text) == 0 and first == second and len(first.image) == 4
    ranges = data.ranges("train")
    assert [weight for _, weight in ranges] == [3.0, 1.0] and ranges[0][0].stop == ranges[1][0].start
    assert [document.id[:2] for document in documents["train"]] == [
        f"{number}/" for number, (places, _) in enumerate(ranges) for _ in places
    ]
    bank = MemoryBank.load(data.memory_bank_directory)
    assert bank.count == len(documents["train"]) == ranges[1][0].stop
    assert all(len(document.neighbours_by_image) == 2 for document in documents["train"])


def test_a_bank_larger_than_memory_gives_the_same_neighbours(prepared, tmp_path):
    """One shard of the bank in memory at a time, and one shard of documents searched for at a time."""
    config = dataclasses.replace(CONFIG, bank_memory_gib=1e-6, shards_per_search=1)
    run(tmp_path, config=config)
    for path in prepared.directory.glob("*.arrayrecord"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_too_much_bad_input_stops(tmp_path):
    source = Source(Split("train", range(50), bad=range(20, 30)))
    with pytest.raises(UserError, match=r"10 of 57 examples .* train/20: broken") as error:
        run(tmp_path, source)
    assert "\n" not in str(error.value)
    listed = str(error.value).split("listed in ")[1].split(",")[0]
    assert len(pathlib.Path(listed).read_text().splitlines()) == 10
    more = dataclasses.replace(CONFIG, max_bad_share=0.5)
    assert len(run(tmp_path, source, image=NoMore(), config=more).split("train")) == 40  # nothing is encoded again


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
    (tmp_path / "in").mkdir()
    for number in range(30):
        PIL.Image.fromarray(image_of(number)).save(tmp_path / "in" / f"{number:02d}.png")
        (tmp_path / "in" / f"{number:02d}.txt").write_text(f"caption {number}")
    (tmp_path / "in" / "00.png").write_bytes(b"")
    data = run(tmp_path / "out", open_source(f"folder:{tmp_path / 'in'}", validation_share=0.2, test_share=0.2))
    assert data.splits == ("train", "validation", "test") and data.manifest["quarantined"] == 1
    assert sum(len(data.split(name)) for name in data.splits) == 29


@pytest.mark.parametrize(
    "bad",
    [{"batch_size": 0}, {"fit": "zoom"}, {"near_copies": "some"}, {"query_drop": 1.5}, {"max_bad_share": -1}],
)
def test_settings_out_of_range_are_user_errors(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        PrepareConfig(**bad)


def test_reading_ahead_does_not_hold_the_split():
    """At most two batches of decoded examples wait."""
    read = []

    class Watched(Split):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    settings = Settings(CONFIG, SelectionConfig(), MemoryBankConfig())
    job = Job(lambda: Source(Watched("train", range(100))), models, settings, "nowhere").with_inputs()
    items = making._read_ahead(job, job.shards[0].examples())
    next(items)
    assert len(read) <= 2 * CONFIG.batch_size
    items.close()
