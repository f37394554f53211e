"""The text tokenizer as a fast tokenizer of Hugging Face's `transformers`, with the names of all other ids.

Written without `tokenizers` and `transformers`: `tokenizer.json` describes each step of theirs
(https://huggingface.co/docs/tokenizers/components), and theirs differ from SentencePiece's in details that
`text_hugging_face_normalizer` and `text_hugging_face_model` make up for.
"""

from __future__ import annotations

import json
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, written_aside
from cm3leon_jax.tokenizers.text import TextTokenizer
from cm3leon_jax.tokenizers.text_hugging_face_model import Pieces, bpe, unigram
from cm3leon_jax.tokenizers.text_hugging_face_normalizer import SPACE, normalizer, replace, replace_regex
from cm3leon_jax.vocabulary import EOS_ID, PAD_ID, UNK_ID, Vocabulary

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"


def export_hugging_face(tokenizer: TextTokenizer, vocabulary: Vocabulary, directory: Path) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` into a folder that exists.

    `transformers.AutoTokenizer.from_pretrained(directory)` then encodes any text to the ids that `tokenizer.encode`
    gives: names of special tokens in a text are text. All ids of `vocabulary` that mean something have names
    (`special_names`). The same tokenizer and vocabulary give the same bytes. What remains different:

    - Of two ways to cut a text into the same pieces in another order, "ll" + "l" or "l" + "ll", a unigram model finds
      either, as rounding has it: SentencePiece adds scores in 32 bits, `tokenizers` in 64. In real text that is rare.
    - Decoding with `skip_special_tokens` leaves out unk, which `TextTokenizer.decode` shows as " \u2047 ".
    - Byte pieces in an order that is no UTF-8, which `encode` never gives, decode to more "\ufffd".
    - Lone surrogates are refused, where `encode` reads "?".

    Raises ValueError when the vocabulary is not one of this tokenizer, `UserError` when the tokenizer cannot be
    expressed (never for those that `train_text_tokenizer` makes, but for a text piece that has a special name).
    """
    if tokenizer.size != vocabulary.text_size:
        raise ValueError(f"a vocabulary of {vocabulary.text_size} text ids for a tokenizer of {tokenizer.size}")
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model_proto())
    names = special_names(tokenizer, vocabulary)
    special = {"pad_token": names[PAD_ID], "eos_token": names[EOS_ID], "unk_token": names[UNK_ID]}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # their names in a text are text
        **special,
    }
    _write(as_path(directory) / TOKENIZER_FILE, _tokenizer(proto, names))
    _write(as_path(directory) / CONFIG_FILE, config)
    _write(as_path(directory) / SPECIAL_TOKENS_FILE, special)


def special_names(tokenizer: TextTokenizer, vocabulary: Vocabulary) -> dict[int, str]:
    """Id -> name of each id that is not text: those of the tokenizer's control pieces (`<pad>`, `</s>`, `<unk>`),
    `<image:0>`, ..., `<break>`, `<eoss>`, `<sentinel:0>`, ... Ids that mean nothing have none."""
    control = (PAD_ID, EOS_ID, UNK_ID)
    return {
        **dict(zip(control, tokenizer.pieces(control), strict=True)),
        **{vocabulary.image_offset + code: f"<image:{code}>" for code in range(vocabulary.image_size)},
        vocabulary.break_id: "<break>",
        vocabulary.eoss_id: "<eoss>",
        **{vocabulary.sentinel_id(index): f"<sentinel:{index}>" for index in range(vocabulary.num_sentinels)},
    }


def _tokenizer(proto: sentencepiece_model_pb2.ModelProto, names: dict[int, str]) -> dict[str, Any]:
    pieces = _pieces(proto)
    for index, name in names.items():
        if name in pieces.normal:
            raise UserError(
                f"text piece {pieces.normal[name]} has the name of special token {index}, {name!r}: train the text"
                " tokenizer on captions without it"
            )
    pieces.check()
    steps = normalizer(proto.normalizer_spec.precompiled_charsmap)
    if proto.trainer_spec.model_type == proto.trainer_spec.UNIGRAM:
        model, more_steps = unigram(pieces)
        steps["normalizers"] += more_steps
    else:
        model = bpe(pieces)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": name, **flags} for index, name in names.items()],
        "normalizer": steps,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": _decoder(names[UNK_ID], proto.trainer_spec.unk_surface),
        "model": model,
    }


def _pieces(proto: sentencepiece_model_pb2.ModelProto) -> Pieces:
    kind = sentencepiece_model_pb2.ModelProto.SentencePiece
    return Pieces(
        names=[piece.piece for piece in proto.pieces],
        scores=[piece.score for piece in proto.pieces],
        byte_ids={int(piece.piece[3:5], 16): i for i, piece in enumerate(proto.pieces) if piece.type == kind.BYTE},
        unk_id=UNK_ID,
        normal={piece.piece: i for i, piece in enumerate(proto.pieces) if piece.type == kind.NORMAL},
    )


def _decoder(unk: str, unk_surface: str) -> dict[str, Any]:
    """Pieces -> text: byte pieces are spelled out, spaces before the text dropped."""
    steps = [
        replace_regex(rf"\A{unk}\z", unk_surface),
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        replace_regex(rf"\A{SPACE}+", ""),
        replace(SPACE, " "),
    ]
    return {"type": "Sequence", "decoders": steps}


def _write(path: Any, value: dict[str, Any]) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
