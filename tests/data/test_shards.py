"""Shards: what is read is what was written, and what is damaged is named."""

import concurrent.futures
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.data.records import PreparedDocument, decode_document, encode_document
from cm3leon_jax.data.shards import FORMAT, PreparedData, describe_shard, shard_name, write_shard
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary

ARRAYS = [name for name, type_ in PreparedDocument.__annotations__.items() if type_ == "np.ndarray"]


def document(seed, **fields):
    rng = np.random.default_rng(seed)
    return PreparedDocument(
        **{
            "id": f"{seed}.png",
            "caption": f"ein Bär, Nr. {seed}",
            "text": rng.integers(3, 50_000, rng.integers(1, 9)).astype(np.int32),
            "image": rng.integers(0, 8192, 16).astype(np.int32),
            "text_embedding": rng.normal(size=8).astype(np.float32),
            "image_embedding": rng.normal(size=8).astype(np.float32),
            "neighbours_by_image": rng.integers(0, 100, 2).astype(np.int32),
            "neighbours_by_text": rng.integers(0, 10**6, rng.integers(0, 3)).astype(np.int32),
            "scores_by_image": rng.random(2).astype(np.float32),
            "scores_by_text": rng.random(2).astype(np.float32),
            "metadata": {"scene": [seed, {"x": None}]},
        }
        | fields
    )


def assert_same(one, other):
    assert (one.id, one.caption, one.metadata) == (other.id, other.caption, other.metadata)
    for name in ARRAYS:
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left, right, rtol=2**-10 if left.dtype.kind == "f" else 0, atol=1e-7)


def write_data(directory, sizes, **manifest):
    """A folder of prepared data; document i of the split is `document(i)`."""
    splits = {}
    for split, shard_sizes in sizes.items():
        start, shards = 0, []
        for index, size in enumerate(shard_sizes):
            path = directory / shard_name(split, index, len(shard_sizes))
            write_shard(path, (encode_document(document(start + place)) for place in range(size)))
            shards.append(describe_shard(path))
            start += size
        splits[split] = {"documents": start, "shards": shards}
    fields = {
        "format": FORMAT,
        "splits": splits,
        "fingerprints": {"text": "t1", "image": "i1", "retriever": "r1"},
        "vocabulary": {"text_size": 50_000, "image_size": 8192, "num_sentinels": 16, "multiple_of": 256},
        "memory_bank": {"directory": "memory_bank", "recall_at_10": 1.0},
    }
    (directory / "manifest.json").write_text(json.dumps(fields | manifest))
    return directory


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("prepared"), {"train": [7, 0, 5, 8], "test": [3]})


@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_random_access_gives_what_was_written(prepared, memory_limit):
    data = PreparedData(prepared, memory_limit=memory_limit)
    assert data.splits == ("train", "test") and data.vocabulary == Vocabulary(50_000, 8192, 16, 256)
    split = data.split("train")
    assert len(split) == 20
    for index in [*np.random.default_rng(0).permutation(20), 3, 19]:
        assert_same(split[index], document(int(index)))
    for index in (-1, 20):
        with pytest.raises(IndexError):
            split[index]
    with pytest.raises(UserError, match="no split 'dev'"):
        data.split("dev")
    assert not split[0].text.flags.writeable
    data.verify()


def test_threads_may_share_a_split(prepared):
    split = PreparedData(prepared, memory_limit=0).split("train")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda index: split[index % 20].id, range(400)))
    assert ids == [f"{index % 20}.png" for index in range(400)]


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.integers(0, 2**31 - 1)),
    st.dictionaries(st.text(), st.none() | st.integers() | st.floats(allow_nan=False) | st.text()),
)
@settings(max_examples=100, deadline=None)
def test_records_are_exact(caption, ids, metadata):
    written = document(0, caption=caption, text=np.array(ids, np.int32), metadata=metadata)
    record = encode_document(written)
    assert_same(decode_document(record), written)
    assert encode_document(written) == record


def test_ids_take_two_bytes_where_they_fit():
    few = encode_document(document(0, text=np.full(1000, 2**16 - 1)))
    assert len(encode_document(document(0, text=np.full(1000, 2**16)))) - len(few) == 2000


def test_the_same_records_give_the_same_bytes(tmp_path, prepared):
    again = write_data(tmp_path, {"train": [7, 0, 5, 8], "test": [3]})
    for path in sorted(prepared.iterdir()):
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_other_tokenizers_are_refused(prepared):
    data = PreparedData(prepared)
    data.check()
    data.check(text="t1", image="i1", retriever="r1")
    for name, says in (("text", "text tokenizer"), ("image", "image tokenizer"), ("retriever", "retriever")):
        with pytest.raises(UserError, match=f"prepared with another {says} .*`cm3leon prepare` again"):
            data.check(**{name: "other"})


def test_damage_is_named(tmp_path):
    write_data(tmp_path, {"train": [5, 5]})
    path = tmp_path / shard_name("train", 1, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=f"{path.name} is damaged .*bytes"):
        PreparedData(tmp_path).split("train")[5]
    opened = PreparedData(tmp_path)
    path.unlink()
    for read in (lambda: PreparedData(tmp_path), lambda: opened.split("train")[5]):
        with pytest.raises(UserError, match=f"{path.name} is damaged .*missing"):
            read()
    place = whole.index(b"ein B") if b"ein B" in whole else 200
    path.write_bytes(whole[:place] + bytes(byte ^ 255 for byte in whole[place : place + 40]) + whole[place + 40 :])
    data = PreparedData(tmp_path)
    with pytest.raises(UserError, match=f"{path.name} is damaged .*checksum"):
        data.verify()
    assert data.split("train")[0].id == "0.png"
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        [data.split("train")[index] for index in range(5, 10)]


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (None, "no manifest"),
        ("{", "cannot be read"),
        ("[]", "format None"),
        ('{"format": 99}', "format 99"),
        (f'{{"format": {FORMAT}}}', "not complete"),
        (f'{{"format": {FORMAT}, "splits": {{"train": 1}}}}', "not complete"),
    ],
)
def test_a_bad_manifest_is_a_user_error(tmp_path, manifest, says):
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=says) as error:
        PreparedData(tmp_path)
    assert "cm3leon prepare" in str(error.value)
