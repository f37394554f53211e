# ruff: noqa: RUF001 - letters that look alike are what is tested
"""The exported fast tokenizer, as `transformers` loads it, against ours: equal ids on 10,000 texts in many scripts."""

import collections
import itertools
import random
import unicodedata

import numpy as np
import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.tokenizers.text import TextTokenizer, TextTokenizerConfig, train_text_tokenizer
from cm3leon_jax.tokenizers.text_hugging_face import export_hugging_face
from cm3leon_jax.vocabulary import EOS_ID, PAD_ID, UNK_ID, Vocabulary

transformers = pytest.importorskip("transformers", reason="needs transformers, as a reference")

WORDS = """the quick brown fox jumps over lazy dogs well-known café naïve façade Übergröße 12 345 2024 1,000.50 ... !!!
над рекой стоит дом ёлка
βιβλίο Ελλάδα שלום עולם بِسْمِ مرحبا بالعالم नमस्ते दुनिया สวัสดี ครับ 漢字 かな カタカナ 日本語 你好 世界
한국어 안녕하세요 ngoài tiếng Việt x=y a<b {key} "quoted" can't e.g. http://example.org/a_b 👍 🎉 ½ ﬁne"""
SPECIAL = [
    "</s>",
    "<s>",
    "<pad>",
    "<unk>",
    "<eos>",
    "<break>",
    "<eoss>",
    "<image:0>",
    "<image:12>",
    "<sentinel:0>",
    "<0x41>",
    "<0xE2>",
    "<0x0A>",
]
SPACES = [" ", "  ", "    ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u2009", "\u202f", "\u3000", "\u2028", "\u200b"]
ODD = [
    "\u2581",
    "\u2581\u2581a",
    "\0",
    "\x01",
    "\x7f",
    "\x85",
    "\u00ad",
    "\u200d",
    "\u200c",
    "\ufeff",
    "\ufffd",
    "\uffff",
]
EMOJI = ["👩\u200d👩\u200d👧", "👍🏽", "❤\ufe0f", "🏳\ufe0f\u200d🌈", "🇫🇷", "1\ufe0f\u20e3", "😀😀😀"]
FORMS = [
    "Ｆｕｌｌ",
    "ﬁ\u0302",
    "ﬄ",
    "Ａ\u0301",
    "①",
    "㍿",
    "ﷺ",
    "ﾊﾟ",
    "ｶﾞ",
    "²",
    "…",
    "´",
    "½",
    "ﻻ",
    "𝔘\u0308",
    "\u0344",
    "i\u0344",
]
RANGES = [(0x20, 0x7F), (0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE00), (0xE00, 0x1000)]
RANGES += [(0x1100, 0x1200), (0x1E00, 0x2100), (0x2100, 0x2C00), (0x3000, 0x3200), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4)]
RANGES += [(0xF900, 0x10000), (0x10000, 0x17000), (0x1D000, 0x1FC00), (0, 0xD800), (0xE000, 0x110000)]
KINDS = list(itertools.product(["unigram", "bpe"], [True, False], ["nfkc", "identity"]))


def mixed_texts(count, seed):
    """Texts of all the kinds above, mixed; some are empty or blank."""
    rng = random.Random(seed)
    words, marks = WORDS.split(), [chr(code) for code in range(0x110000) if unicodedata.combining(chr(code))]

    def part():
        kind = rng.randrange(10)
        if kind < 4:
            return rng.choice(words)
        if kind == 4:
            return rng.choice(rng.choice([SPECIAL, EMOJI, FORMS, ODD]))
        if kind == 5:
            low, high = rng.choice(RANGES)
            codes = (rng.randrange(low, high) for _ in range(rng.randint(1, 6)))
            return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        if kind == 6:
            return rng.choice("aeouAEOUnsαιωυاक가ᄀ漢") + "".join(rng.choices(marks, k=rng.randint(1, 3)))
        if kind == 7:
            return unicodedata.normalize(rng.choice(["NFD", "NFKD"]), rng.choice(words))
        if kind == 8:
            return rng.choice("al0.!-x") * rng.randint(2, 9)
        return "".join(rng.choices("".join(words), k=rng.randint(1, 8)))

    def text():
        parts = [part() for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 9]))]
        spaces = [
            rng.choice(SPACES) if rng.random() < 0.3 else rng.choice([" ", " ", ""]) for _ in range(len(parts) + 1)
        ]
        return "".join(itertools.chain(*itertools.zip_longest(spaces, parts, fillvalue="")))

    return [text() for _ in range(count)]


TEXTS = mixed_texts(10_000, seed=0)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """(model type, byte fallback, normalization) -> our tokenizer."""
    rng = random.Random(1)
    captions = [" ".join(rng.choices(WORDS.split(), k=rng.randint(3, 12))) for _ in range(1_500)]
    captions += [character * length for character in "al0.!-" for length in range(2, 7)]
    trained = {}
    for model_type, byte_fallback, normalization in KINDS:
        config = TextTokenizerConfig(
            size=700 if byte_fallback else 450,
            model_type=model_type,
            byte_fallback=byte_fallback,
            normalization=normalization,
            character_coverage=0.999,
        )
        directory = tmp_path_factory.mktemp("text") / "tokenizer"
        trained[model_type, byte_fallback, normalization] = train_text_tokenizer(captions, config, directory)
    return trained


def vocabulary_of(tokenizer):
    return Vocabulary(text_size=tokenizer.size, image_size=30, num_sentinels=5, multiple_of=64)


def exported(tokenizer, directory):
    export_hugging_face(tokenizer, vocabulary_of(tokenizer), directory)
    return transformers.AutoTokenizer.from_pretrained(directory)


def encoded(fast, texts):
    return fast(texts, add_special_tokens=False)["input_ids"]


def differing(tokenizer, fast, texts):
    """(our ids, theirs) where they differ."""
    pairs = zip((tokenizer.encode(text).tolist() for text in texts), encoded(fast, texts), strict=True)
    return [(ours, theirs) for ours, theirs in pairs if ours != theirs]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
def test_same_ids_and_texts(kind, tokenizers, tmp_path):
    tokenizer = tokenizers[kind]
    fast = exported(tokenizer, tmp_path)
    assert fast.is_fast
    different = differing(tokenizer, fast, TEXTS)
    if kind[0] == "unigram":  # but for exact ties: the same pieces in another order
        different = [pair for pair in different if collections.Counter(pair[0]) != collections.Counter(pair[1])]
    assert not different
    all_ids = [tokenizer.encode(text).tolist() for text in TEXTS]
    texts = [tokenizer.decode(ids) for ids in all_ids]
    assert fast.batch_decode(all_ids) == texts
    known = [index for index, ids in enumerate(all_ids) if UNK_ID not in ids]
    assert len(known) > (9_999 if kind[1] else 1_500)
    framed = [[EOS_ID, *all_ids[index], EOS_ID, PAD_ID] for index in known]
    assert fast.batch_decode(framed, skip_special_tokens=True) == [texts[index] for index in known]


def test_ties_are_of_rounding(tokenizers, tmp_path):
    """SentencePiece adds up scores in float32. With scores that it adds exactly, ties come out as with float64."""
    runs = [start + letter * n for start in ["", "dogs "] for letter in "al0.!-" for n in range(1, 60)]
    tokenizer = tokenizers["unigram", True, "identity"]
    fast = exported(tokenizer, tmp_path)
    different = differing(tokenizer, fast, runs)
    assert different and all(collections.Counter(ours) == collections.Counter(theirs) for ours, theirs in different)
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model_proto())
    for piece in proto.pieces:
        piece.score = round(piece.score * 1024) / 1024
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    rounded = TextTokenizer(processor, tokenizer.config, "")
    assert not differing(rounded, exported(rounded, tmp_path), runs + TEXTS)


@pytest.mark.parametrize("kind", [("unigram", True, "nfkc"), ("bpe", False, "identity")])
def test_special_tokens(kind, tokenizers, tmp_path):
    tokenizer, vocabulary = tokenizers[kind], vocabulary_of(tokenizers[kind])
    fast = exported(tokenizer, tmp_path)
    fast.save_pretrained(tmp_path / "again")
    for loaded in (fast, transformers.AutoTokenizer.from_pretrained(tmp_path / "again")):
        assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id) == (PAD_ID, EOS_ID, UNK_ID)
        ids = {"<break>": vocabulary.break_id, "<eoss>": vocabulary.eoss_id}
        ids |= {f"<image:{code}>": vocabulary.image_offset + code for code in range(vocabulary.image_size)}
        ids |= {f"<sentinel:{i}>": vocabulary.sentinel_id(i) for i in range(vocabulary.num_sentinels)}
        ids |= dict(zip(tokenizer.pieces(range(3)), range(3), strict=True))
        assert loaded.get_added_vocab() == ids and len(loaded) == vocabulary.used
        assert loaded.convert_tokens_to_ids(list(ids)) == list(ids.values())
        assert all(token.special for token in loaded.added_tokens_decoder.values())
        assert loaded.decode(list(ids.values()), skip_special_tokens=True) == ""
        texts = [
            f"{before}{name}{after}" for name in [*ids, *SPECIAL] for before, after in [("", ""), ("a ", " b"), "xy"]
        ]
        assert not differing(tokenizer, loaded, texts)
        assert [loaded.encode(text, add_special_tokens=False) for text in texts] == encoded(loaded, texts)
        assert encoded(loaded, texts) == loaded(texts)["input_ids"]  # nothing is added


@pytest.mark.parametrize("byte_fallback", [True, False])
@pytest.mark.parametrize("missing", ["", "<", ">", "0", "/k", "</spadunk>0x4E2"])
def test_names_in_text_whatever_characters_are_known(byte_fallback, missing, tmp_path):
    """A unigram model of `tokenizers` would find "</s>" or "<0x41>" in text."""
    letters = "".join(letter for letter in "</spadunk>0x14E2qz" if letter not in missing)
    captions = [" ".join(letters[i:] + letters[:i]) for i in range(len(letters))] * 100
    config = TextTokenizerConfig(size=300, byte_fallback=byte_fallback, character_coverage=1.0)
    tokenizer = train_text_tokenizer(captions, config, tmp_path / "tokenizer")
    texts = [before + name + after for name in SPECIAL for before in ["", "q", "é ", "<"] for after in ["", " z", ">"]]
    assert not differing(tokenizer, exported(tokenizer, tmp_path), texts)


@pytest.mark.parametrize("kind", [("unigram", True, "nfkc"), ("bpe", True, "nfkc"), ("unigram", False, "identity")])
def test_any_ids_decode_alike(kind, tokenizers, tmp_path):
    tokenizer = tokenizers[kind]
    fast = exported(tokenizer, tmp_path)
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model_proto())
    text_ids = [i for i, piece in enumerate(proto.pieces) if piece.type != piece.BYTE and i not in (PAD_ID, EOS_ID)]
    ascii_ids = [
        i for i, piece in enumerate(proto.pieces) if piece.type == piece.BYTE and int(piece.piece[3:5], 16) < 0x80
    ]
    rng = np.random.default_rng(0)
    all_ids = [rng.choice(text_ids + ascii_ids, rng.integers(0, 12)).tolist() for _ in range(2_000)]
    assert [fast.decode(ids) for ids in all_ids] == [tokenizer.decode(ids) for ids in all_ids]


def test_composition_in_every_script(tokenizers, tmp_path):
    """Every character that Unicode composes or rewrites, alone and taken apart, with marks that must stay apart."""
    tokenizer = tokenizers["bpe", True, "nfkc"]
    fast = exported(tokenizer, tmp_path)
    syllables = range(0xAC00, 0xD7A4)  # so many and so regular that some will do
    codes = [
        code for code in range(0x110000) if not 0xD800 <= code < 0xE000 and (code not in syllables or code % 20 == 0)
    ]
    texts = []
    for character in map(chr, codes):
        apart = {unicodedata.normalize(form, character) for form in ["NFD", "NFKD"]} - {character}
        texts += [character, *apart, *(text + "\u0301\u0325" for text in apart)] if apart else []
    scripts = ["\U0001611e\U00016129\U0001611f", "\U0001138b\U000113c2\U000113b8", "\U00016d63\U00016d67a"]
    texts += ["".join(drawn) for script in scripts for drawn in itertools.product(script, repeat=5)]
    normalize = fast.backend_tokenizer.normalizer.normalize_str
    theirs = [normalize(text).replace("\u2581", " ").removeprefix(" ") for text in texts]
    assert theirs == [tokenizer.normalize(text) for text in texts]


def test_same_bytes(tokenizers, tmp_path):
    tokenizer = tokenizers["unigram", True, "nfkc"]
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        export_hugging_face(tokenizer, vocabulary_of(tokenizer), tmp_path / name)
        contents.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}


def test_what_cannot_be_exported(tokenizers, tmp_path):
    tokenizer = tokenizers["bpe", True, "identity"]
    with pytest.raises(ValueError, match="text ids"):
        export_hugging_face(tokenizer, Vocabulary(text_size=tokenizer.size + 1), tmp_path)
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model_proto())
    proto.pieces[300].piece = "<break>"
    renamed = TextTokenizer(
        sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString()), tokenizer.config, ""
    )
    with pytest.raises(UserError, match="<break>"):
        export_hugging_face(renamed, vocabulary_of(renamed), tmp_path)
    assert not list(tmp_path.iterdir())
