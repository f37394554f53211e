"""CLIP's byte-pair tokenizer gives the ids of Hugging Face's."""

import functools
import json
import unicodedata

import numpy as np
import pytest
from byte_pairs import SENTENCES, learn
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.retrieval.clip.bpe import BytePairTokenizer
from cm3leon_jax.retrieval.clip.inputs import tokenize
from cm3leon_jax.retrieval.clip.published.tokenizer_file import read_tokenizer_file
from cm3leon_jax.retrieval.clip.tokenizer import load_tokenizer
from cm3leon_jax.retrieval.clip.words import normalize, split_words
from cm3leon_jax.runtime.errors import UserError

TEXTS = (
    *SENTENCES,
    "",
    " \t\n\u3000 ",
    "HELLO   World\r\nnew\u00a0line",
    "I'm you're they've he'd we'll it's can't 's' ''s 'send 'llama don\u2019t rock'n'roll",
    "3.14159 1,000,000 ½ ² Ⅷ ٣ 2024-11-23 #1 50% a1b2c3",
    "... !!! ?! (a) [b] {c} <d> & &amp; @user #tag $5 snake_case C++ http://x.org/?a=b",
    "東京タワーの写真、美しい。中文句子 한국어 ภาษาไทย हिन्दी العربية עברית",
    "ΟΔΟΣ Σ ς İstanbul \u0131I ǅ ŉ ﬁ ẞß Ångström e\u0301 \u1e9b\u0323",
    "👩‍👩‍👧‍👦 🇩🇪 ☕️ 🏳️‍🌈 ✈ zero\u200bwidth soft\u00adhyphen \x00\x07\x1c\x1f\x7f\x85",
    "a" * 5_000,
    "banana " * 2_000,
    "写真" * 3_000,
)


@functools.cache
def ours() -> BytePairTokenizer:
    return BytePairTokenizer(*learn())


@functools.cache
def hugging_face():
    transformers = pytest.importorskip("transformers", reason="needs transformers, as a reference")
    vocabulary, merges = learn()
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges)


def reference_ids(text: str) -> list[int]:
    return hugging_face()(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_equals_hugging_face(text):
    assert ours().encode(text).tolist() == reference_ids(text)


# Characters that Python's tables lack may be known to other libraries' newer ones.
KNOWN = st.characters(exclude_categories=("Cs", "Cn"))
WORDS = st.sampled_from([*" ".join(TEXTS[:11]).split(), " ", "'", "'s", "a", "\n", "0", "!"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(KNOWN, max_size=60), st.lists(st.one_of(WORDS, KNOWN), max_size=40).map("".join)))
def test_fuzzed_texts_equal_hugging_face(text):
    assert ours().encode(text).tolist() == reference_ids(text)


def test_every_character_of_the_basic_plane_equals_hugging_face():
    characters = [chr(point) for point in range(0x10000) if unicodedata.category(chr(point)) not in ("Cs", "Cn", "Co")]
    texts = ["".join(f"a{each}1{each}'s {each}" for each in characters[at : at + 64]) for at in range(0, 60_000, 64)]
    for text, expected in zip(texts, hugging_face()(texts, add_special_tokens=False)["input_ids"], strict=True):
        assert ours().encode(text).tolist() == expected


def test_sequences_equal_hugging_face():
    texts = list(TEXTS)
    expected = hugging_face()(texts, truncation=True, max_length=77, padding="max_length")
    tokens, lengths = tokenize(texts, ours(), 77)
    np.testing.assert_array_equal(lengths, np.sum(expected["attention_mask"], axis=1))
    assert lengths.min() == 2 and lengths.max() == 77
    for row, length, reference in zip(tokens, lengths, expected["input_ids"], strict=True):
        np.testing.assert_array_equal(row[:length], reference[:length])


def test_reads_what_hugging_face_saves(tmp_path):
    hugging_face().save_pretrained(tmp_path)
    assert read_tokenizer_file(tmp_path / "tokenizer.json").fingerprint == ours().fingerprint


# --- without a reference ----------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_no_text_breaks_it_or_makes_control_tokens(text):
    tokenizer = ours()
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32 and not {tokenizer.start_id, tokenizer.end_id} & set(ids.tolist())
    assert "".join(split_words(normalize(text))) == normalize(text).replace(" ", "")


def test_pairs_are_merged_in_the_order_in_which_they_were_learned():
    vocabulary, merges = learn()
    names = {index: token for token, index in vocabulary.items()}
    assert merges.index(("th", "e</w>")) < merges.index(("th", "e"))
    assert [names[index] for index in ours().encode("The THEx")] == ["the</w>", "the", "x</w>"]


def test_control_tokens_in_a_text_are_plain_characters():
    assert split_words(normalize("a <|endoftext|>")) == ["a", "<|", "endoftext", "|>"]
    assert ours().end_id not in ours().encode("<|endoftext|><|startoftext|>")


def test_query_dropout_spares_start_and_end():
    tokens, lengths = tokenize(["a photo of a cat"], ours(), 77, drop=0.9)
    assert lengths[0] == 3 and tokens[0, 0] == ours().start_id and tokens[0, 2] == ours().end_id


def test_folder(tmp_path):
    ours().save(tmp_path / "saved")
    loaded = load_tokenizer(tmp_path / "saved")
    assert isinstance(loaded, BytePairTokenizer) and loaded.fingerprint == ours().fingerprint
    vocabulary, merges = learn()
    other = BytePairTokenizer(vocabulary, merges[:-1])
    assert other.fingerprint != ours().fingerprint and other.size == ours().size


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files: files["vocab.json"].pop("<|endoftext|>"), "has no '<|endoftext|>'"),
        (lambda files: files["vocab.json"].update({"!": 10**9}), "are not 0.."),
        (lambda files: files["vocab.json"].update({"!": "0"}), "are not 0.."),
        (lambda files: files["merges.txt"].append("q q"), "has no 'qq'"),
        (lambda files: files["merges.txt"].append("a b c"), "two tokens are due"),
        (lambda files: files.pop("merges.txt"), "merges.txt cannot be read"),
        (lambda files: files.pop("vocab.json"), "no CLIP vocabulary"),
        (lambda files: files.update({"vocab.json": ["a"]}), "must be a table"),
    ],
)
def test_bad_files(change, words, tmp_path):
    vocabulary, merges = learn()
    files = {"vocab.json": vocabulary, "merges.txt": [*map(" ".join, merges)]}
    change(files)
    for name, content in files.items():
        text = json.dumps(content) if name == "vocab.json" else "\n".join(content)
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        BytePairTokenizer.load(tmp_path)
    assert words in str(error.value)
