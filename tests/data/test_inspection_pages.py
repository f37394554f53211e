"""What the pages of `cm3leon inspect` say, on small prepared data."""

import dataclasses

import numpy as np
import prepared_folder
import pytest
from html_page import Page
from prepare_fakes import Hashes, Means, Source, Split, Words

from cm3leon_jax import cli
from cm3leon_jax.data.inspection.choosing import find
from cm3leon_jax.data.inspection.documents import DocumentCards
from cm3leon_jax.data.inspection.images import DecodedImages
from cm3leon_jax.data.inspection.packed import packed_section
from cm3leon_jax.data.inspection.pages import bank_page, documents_page, is_bank_alone, sequences_page
from cm3leon_jax.data.inspection.search import searches
from cm3leon_jax.data.objective import Example, Objective, ObjectiveConfig
from cm3leon_jax.data.prepare import PrepareConfig
from cm3leon_jax.data.prepare.job import Models
from cm3leon_jax.data.prepare.pipeline import prepare
from cm3leon_jax.data.settings import PretrainingConfig, StreamConfig
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.data.tasks import pretraining_mixture
from cm3leon_jax.retrieval.memory_bank import MemoryBank
from cm3leon_jax.retrieval.verdicts import Reason
from cm3leon_jax.runtime.errors import UserError

NASTY = "<script>alert(1)</script> & 'a'"
CONFIG = PrepareConfig(
    examples_per_shard=64, max_caption_tokens=5, num_sentinels=8, vocabulary_multiple_of=64, query_drop=0.0
)
OPTIONS = {"ids": [], "count": 3, "seed": 0, "candidates": 4, "rows": 9}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    train = Split("train", [*range(30), 3, 4], captions={7: NASTY, 8: "one two three four five six"}, bad=[0])
    used = Models(Words(), Means(), Hashes())
    config = dataclasses.replace(CONFIG, max_bad_share=0.2)
    directory = tmp_path_factory.mktemp("prepared")
    return prepare(lambda: Source(train), lambda: used, directory, config)


def documents(data, split="train", **options):
    return documents_page(data, split, Words(), Means(), **OPTIONS | options)


def test_a_page_of_documents_needs_no_other_file_and_is_escaped(data):
    source = documents(data, ids=["train/7"])
    page = Page(source)
    assert f"“{NASTY}”" in page.text and "<script>" not in source
    assert "<xxx>" in page.text  # a piece of the fake tokenizer
    assert '{"number": 7}' in page.text
    for tag, attributes in page.elements:
        assert tag != "script" and not attributes.get("src", "data:").startswith(("http", "//"))
    assert sum(tag == "img" for tag, _ in page.elements) >= 5


def test_documents_are_drawn_by_the_seed_and_stored_neighbours_are_shown(data):
    split = data.split("train")
    source = documents(data)
    assert documents(data) == source != documents(data, seed=1)
    shown = [index for index in range(len(split)) if f"document {index} of “train”" in Page(source).text]
    assert len(shown) == 3
    for place in split[shown[0]].neighbours_by_image:
        assert split[int(place)].id in Page(source).text


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_search_takes_what_was_stored_where_nothing_was_dropped_from_queries(data, split):
    found = find(data, [split], [data.split(split)[index].id for index in range(5)])
    for shown, search in zip(found.values(), searches(data, list(found.values())), strict=True):
        for candidates, stored in (
            (search.by_image, shown.document.neighbours_by_image),
            (search.by_text, shown.document.neighbours_by_text),
        ):
            assert [each.place for each in candidates if each.reason == Reason.TAKEN] == stored.tolist()
            assert (candidates[0].reason == Reason.ITSELF) <= (split == "train")


def test_taken_candidates_are_shown_however_far_behind(data):
    page = Page(documents(data, ids=["train/7", "train/9"], candidates=1))
    shown = find(data, ["train"], ["train/7", "train/9"]).values()
    stored = sum(len(each.document.neighbours_by_image) + len(each.document.neighbours_by_text) for each in shown)
    assert sum(attributes.get("class") == "verdict all" for _, attributes in page.elements) == stored == 8
    text = page.text
    assert (
        "other candidates are not shown" in text and "passed over: the document itself, or its image again (1)" in text
    )


def test_pages_say_when_queries_were_varied(data):
    varied = PreparedData(data.directory)
    varied.manifest["settings"]["prepare"]["query_drop"] = 0.25
    assert "25% of the query's tokens" in Page(documents(varied)).text
    assert "of the query's tokens" not in Page(documents(varied, split="validation")).text
    assert "of the query's tokens" not in Page(documents(data)).text


def test_what_was_left_out_is_counted_and_duplicates_show_what_stays(data):
    text = Page(documents(data)).text
    assert "4 examples were left out" in text and "duplicate: same image and caption train 2" in text
    assert "broken train 1" in text and "the caption has … tokens, more than …" in text
    assert "the same image and caption as train/3 caption 3 train" in text
    assert "the first 1 of 4" in Page(documents(data, rows=1)).text


def test_a_damaged_quarantine_is_a_user_error(data, tmp_path):
    for path in data.directory.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "quarantine.jsonl").unlink()
    copied = PreparedData(tmp_path)
    assert "quarantine.jsonl is not in the folder" in Page(documents(copied)).text
    (tmp_path / "quarantine.jsonl").write_text("")
    assert "Nothing: every example" in Page(documents(copied)).text
    (tmp_path / "quarantine.jsonl").write_text('{"split": "train"}\n')
    with pytest.raises(UserError, match=r"line 1 of .* is damaged"):
        documents(copied)


def test_interleaved_documents_show_all_their_parts(tmp_path):
    directory = prepared_folder.write_prepared(tmp_path, image_tokens=4, **{"train": 6, "train.interleaved": 2})
    folder = PreparedData(directory)
    shown = list(find(folder, ["train.interleaved"], ["train.interleaved1"]).values())
    page = Page(DocumentCards(folder, Words(), DecodedImages(Means()), 4).section(shown))
    assert sum(tag == "img" for tag, _ in page.elements) == 2
    assert sum(attributes.get("class") == "part" for _, attributes in page.elements) == 3
    assert "they have no neighbours" in page.text and "Stored neighbours" not in page.text


def test_a_page_of_sequences_tells_how_they_fill_rows(data):
    stream = StreamConfig(length=64, batch_size=4, lanes=4, packing="whole")
    objective = Objective(data.vocabulary)
    with pretraining_mixture(data.directory, "inspected", PretrainingConfig(), Words()):
        found, source = sequences_page("inspected", "train", data, Words(), Means(), stream, objective, count=2, seed=0)
    text = Page(source).text
    assert found.text.count("<eos>") == 4 and "[image 4 codes]" in found.text
    assert "1. inspected.retrieval_augmented_pairs" in text and "3. inspected" not in text
    assert "512 sequences" in text and "Not padding" in text and "StreamConfig.packing = 'whole'" in text


def test_packing_is_told_of_the_very_rows(data):
    examples = [Example(np.full(length, 5, np.int32)) for length in [5, 5, 5, 9] * 10]
    objective = Objective(data.vocabulary, ObjectiveConfig(rate=0))
    whole = StreamConfig(length=8, batch_size=1, lanes=1, packing="whole", lookahead=2)
    text = Page(packed_section(examples, whole, objective)).text
    assert "40 sequences: smallest 5, median 5, mean 6, largest 9" in text and "Longer than a row of 8 0.0%" in text
    straddle = dataclasses.replace(whole, packing="straddle")
    text = Page(packed_section(examples, straddle, objective)).text
    assert "26 rows" in text and "padding" not in text  # 240 ids in blocks of 9
    short = Page(packed_section(examples[:1], straddle, objective)).text
    assert "too short to fill one row" in short and "Sequences a row" not in short


def test_a_page_of_a_bank_with_documents_and_alone(data):
    bank = MemoryBank.load(data.memory_bank_directory)
    whole = Page(bank_page(bank, data, Means(), ids=["train/7"], count=2, seed=0))
    assert NASTY in whole.text and "brute_force" in whole.text and sum(tag == "img" for tag, _ in whole.elements) == 8
    alone = Page(bank_page(bank, None, None, ids=["3"], count=2, seed=0))
    own = bank.search(bank.embeddings_of(np.array([3])), 2)
    assert "document 3 " in alone.text and f"document {own[0][0, 1]} · {own[1][0, 1]:.3f}" in alone.text
    for ids, words in ((["99"], "the nearest is 27"), (["train/1"], "numbers")):
        with pytest.raises(UserError, match=words):
            bank_page(bank, None, None, ids=ids, count=2, seed=0)


def test_bad_input_is_a_user_error(data, tmp_path):
    with pytest.raises(UserError, match="no split 'trian'; it has train, validation"):
        documents(data, split="trian")
    with pytest.raises(UserError, match=r"no document 'train/77' \(did you mean 'train/[27]7?'\?\)"):
        documents(data, ids=["train/3", "train/77"])
    with pytest.raises(UserError, match="neither prepared data nor a memory bank"):
        is_bank_alone(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"neither .*: use .*/data"):
        is_bank_alone(tmp_path)


def test_the_command_on_a_bank_alone(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CM3LEON_PREPARED", "1")
    bank = str(data.memory_bank_directory)
    output = tmp_path / "bank.html"
    assert cli.main(["inspect", "--prepared", bank, "--output", str(output), "--count", "2"]) == 0
    page = Page(output.read_text(encoding="utf-8"))
    assert sum(attributes.get("class") == "card nearest" for _, attributes in page.elements) == 2
    assert f"wrote {output}" in capsys.readouterr().out
    for arguments, words in (
        (["--what", "documents"], "is a memory bank alone; for documents"),
        (["--what", "banks"], "--what banks: use one of sequences, documents, bank"),
        (["--count", "0"], "--count 0: give at least 1"),
    ):
        assert cli.main(["inspect", "--prepared", bank, *arguments]) == 2
        assert words in capsys.readouterr().err
    for arguments, words in (
        ([], "inspect needs --text_tokenizer VALUE to show sequences"),
        (["--ids", "train/3"], "--ids names documents: add --what documents"),
    ):
        assert cli.main(["inspect", "--prepared", str(data.directory), *arguments]) == 2
        assert words in capsys.readouterr().err
