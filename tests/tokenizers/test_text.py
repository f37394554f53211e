"""The text tokenizer: exact round trips, no control ids from text, deterministic training, readable errors."""

import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.tokenizers.text import TextTokenizer, TextTokenizerConfig, sample_captions, train_text_tokenizer
from cm3leon_jax.vocabulary import NUM_CONTROL, UNK_ID

COLOURS = ["red", "green", "blue", "yellow"]
SHAPES = ["circle", "square", "triangle"]
CAPTIONS = [
    f"a {colour} {shape} is {relation} the {other} one"
    for colour, shape, relation, other in itertools.product(COLOURS, SHAPES, ["above", "under"], COLOURS)
]
BPE = TextTokenizerConfig(size=400, model_type="bpe")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_text_tokenizer(CAPTIONS, BPE, tmp_path_factory.mktemp("text") / "tokenizer")


@pytest.fixture(scope="module")
def without_bytes(tmp_path_factory):
    config = TextTokenizerConfig(size=100, byte_fallback=False)
    return train_text_tokenizer(CAPTIONS, config, tmp_path_factory.mktemp("text") / "tokenizer")


def test_round_trip_of_captions(tokenizer):
    for caption in CAPTIONS:
        ids = tokenizer.encode(caption)
        assert ids.dtype == np.int32 and ids.ndim == 1
        assert tokenizer.decode(ids) == caption
    assert len(tokenizer.encode("a red circle")) == 3  # whole words


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=4))
def test_parts_are_tokenized_as_the_text_that_they_are_together(tokenizer, parts):
    found = tokenizer.encode_parts(parts)
    assert len(found) == len(parts)
    assert np.concatenate(found).tolist() == tokenizer.encode("".join(parts)).tolist()


@pytest.mark.parametrize("fixture", ["tokenizer", "without_bytes"])
def test_a_part_has_its_own_words(request, fixture):
    tokenizer = request.getfixturevalue(fixture)
    parts = ["a red circle", " is", " above the", " blue", "one"]
    before, after = tokenizer.encode_parts([*parts[:3], " blue one"])[-1], tokenizer.encode_parts(parts[:3])
    assert tokenizer.decode(before) == "blue one"
    assert [tokenizer.decode(ids) for ids in after] == ["a red circle", "is", "above the"]
    # A space is a space, whatever it is called.
    for space in ("\u00a0", "\u3000", " \u2009"):
        question, answer = tokenizer.encode_parts([f"red{space}", "circle"])
        assert tokenizer.decode(question) == "red" and tokenizer.decode(answer) == "circle"
    # An emoji is bytes, all of which are its own; a full stop has no space before it, as in any text.
    question, answer, stop = tokenizer.encode_parts(["red", " 🦎", "."])
    assert tokenizer.decode(question) == "red"
    together = tokenizer.encode("red 🦎.").tolist()
    assert [*question, *answer, *stop] == together
    if fixture == "tokenizer":
        assert tokenizer.decode(answer) == "🦎" and tokenizer.decode(stop) == "."
        assert tokenizer.encode_parts(["a", "."])[1].tolist() == stop.tolist() != tokenizer.encode(".").tolist()


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_unicode_survives(tokenizer, text):
    ids = tokenizer.encode(text)
    assert (ids > UNK_ID).all() and (ids < tokenizer.size).all()
    assert tokenizer.decode(ids) == tokenizer.normalize(text)
    assert tokenizer.normalize(tokenizer.normalize(text)) == tokenizer.normalize(text)


@given(st.lists(st.text("abc é漢\n<>", min_size=1), max_size=5))
def test_normalize_is_nfkc_with_single_spaces(tokenizer, words):
    text = " ".join(words)
    single_spaced = " ".join(word for word in unicodedata.normalize("NFKC", text).split(" ") if word)
    assert tokenizer.normalize(text) == single_spaced


@pytest.mark.parametrize(
    "text", ["<eos>", "</s>", "<s>", "<pad>", "<unk>", "<break>", "<eoss>", "<sentinel:0>", "<0x41>", "\x00", "\x02"]
)
@pytest.mark.parametrize("fixture", ["tokenizer", "without_bytes"])
def test_control_ids_never_come_from_text(request, fixture, text):
    tokenizer = request.getfixturevalue(fixture)
    for said in (text, f"a red circle {text}", text * 3):
        ids = tokenizer.encode(said)
        assert (ids >= UNK_ID).all()
        if tokenizer.config.byte_fallback:
            assert tokenizer.decode(ids) == said


def test_odd_text(tokenizer):
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.encode("   ").dtype == np.int32
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode(tokenizer.encode("\ud800x")) == "?x"  # a lone surrogate, as broken JSON gives it
    assert tokenizer.decode([0, *tokenizer.encode("a red circle"), 1, 0]) == "a red circle"
    assert tokenizer.decode(tokenizer.encode("Question: what?\nAnswer: this.")) == "Question: what?\nAnswer: this."
    for ids in ([tokenizer.size], [-1]):
        with pytest.raises(ValueError, match="text ids"):
            tokenizer.decode(ids)


def test_unknown_characters_without_bytes(without_bytes):
    assert UNK_ID in without_bytes.encode("a 漢 circle")


def test_a_small_corpus_gives_fewer_pieces(tokenizer, without_bytes):
    assert NUM_CONTROL + 256 < tokenizer.size <= 400
    assert without_bytes.size < 100


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_training_is_deterministic(tmp_path, model_type):
    config = TextTokenizerConfig(size=320, model_type=model_type, max_captions=101)
    first = train_text_tokenizer(CAPTIONS * 2, config, tmp_path / "first")
    second = train_text_tokenizer(iter(CAPTIONS * 2), config, tmp_path / "second")
    assert (tmp_path / "first/tokenizer.model").read_bytes() == (tmp_path / "second/tokenizer.model").read_bytes()
    assert first.fingerprint == second.fingerprint
    other = train_text_tokenizer(CAPTIONS[:9], config, tmp_path / "other")
    assert other.fingerprint != first.fingerprint


def test_a_large_corpus_is_sampled_within_bounds():
    """At random from all of it, blank ones apart; each caption of the sample as likely."""
    corpus = [f"caption {number:06d}" for number in range(100_000)]
    for config in (TextTokenizerConfig(max_captions=5_000), TextTokenizerConfig(max_characters=5_000 * 14)):
        sample = sample_captions(itertools.chain.from_iterable((caption, " ") for caption in corpus), config)
        assert 2_500 * 0.9 < len(sample) <= 5_000 and len(set(sample)) == len(sample)
        assert sample == sample_captions(itertools.chain.from_iterable((caption, " ") for caption in corpus), config)
        places = np.array([int(caption.split()[1]) for caption in sample])
        assert np.histogram(places, 10, (0, 100_000))[0] == pytest.approx(len(sample) / 10, rel=0.25)
    assert sample_captions(corpus, TextTokenizerConfig()) == corpus


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "copy")
    copy = TextTokenizer.load(tmp_path / "copy")
    assert (copy.size, copy.fingerprint, copy.config) == (tokenizer.size, tokenizer.fingerprint, BPE)
    np.testing.assert_array_equal(copy.encode(CAPTIONS[0]), tokenizer.encode(CAPTIONS[0]))
    assert copy.pieces(copy.encode("a red")) == ["▁a", "▁red"]


def test_bad_input(tmp_path, tokenizer):
    with pytest.raises(UserError, match="no caption"):
        train_text_tokenizer(["", "  ", "\n"], BPE, tmp_path / "none")
    with pytest.raises(UserError, match="smaller than required"):
        train_text_tokenizer(CAPTIONS, TextTokenizerConfig(size=262), tmp_path / "none")
    assert not list(tmp_path.iterdir())
    for wrong in ({"model_type": "word"}, {"size": 200}, {"character_coverage": 0.0}, {"max_captions": 9}):
        with pytest.raises(UserError):
            TextTokenizerConfig(**wrong)
    with pytest.raises(UserError, match="train-text-tokenizer"):
        TextTokenizer.load(tmp_path / "none")
    tokenizer.save(tmp_path / "broken")
    (tmp_path / "broken/tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(UserError, match="cannot be read"):
        TextTokenizer.load(tmp_path / "broken")
