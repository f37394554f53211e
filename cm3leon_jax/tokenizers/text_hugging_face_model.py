"""A SentencePiece model (pieces, scores, byte fallback) in terms of the models of Hugging Face's `tokenizers`.

SentencePiece finds only normal pieces in a text. Theirs finds whatever is in the vocabulary, so the names of control
and byte pieces need care in a unigram model; in BPE, what no merge makes is not found.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.tokenizers.text_hugging_face_normalizer import replace_regex

_UNKNOWN = "\uffff"  # a noncharacter, which is never a piece


@dataclasses.dataclass(frozen=True)
class Pieces:
    """What a model's pieces are: names and scores by id; ids of byte pieces by byte; the id of unk."""

    names: list[str]
    scores: list[float]
    byte_ids: dict[int, int]
    unk_id: int
    normal: dict[str, int]  # pieces that are found in text, and their ids

    def check(self) -> None:
        """`UserError` if a model has what cannot be exported; `train_text_tokenizer` makes no such models."""
        alphabet = {name for name in self.normal if len(name) == 1}
        if len(set(self.names)) < len(self.names) or not alphabet.issuperset("".join(self.normal)):
            raise UserError(
                "the text tokenizer has two pieces of one name, or pieces of characters that are no pieces themselves:"
                " it cannot be exported; train it with this package"
            )


def bpe(pieces: Pieces) -> dict[str, Any]:
    """-> the JSON of a `BPE` model: what two pieces may be merged, best first."""
    merges = []
    for name in sorted(pieces.normal, key=lambda name: -pieces.scores[pieces.normal[name]]):
        splits = [i for i in range(1, len(name)) if name[:i] in pieces.normal and name[i:] in pieces.normal]
        merges += [[name[:i], name[i:]] for i in sorted(splits, key=lambda i: _rank(name, i))]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": pieces.names[pieces.unk_id],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": bool(pieces.byte_ids),
        "ignore_merges": False,
        "vocab": {name: index for index, name in enumerate(pieces.names)},
        "merges": merges,
    }


def _rank(name: str, split: int) -> int:
    """SentencePiece prefers the pair on the left where x y z could become (x y) z or x (y z), both `name`."""
    shorter = min(split, len(name) - split)
    return split if name[shorter:] == name[:-shorter] else -split


def unigram(pieces: Pieces) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """-> the JSON of a `Unigram` model, and normalizers to put before it.

    Other pieces than normal ones get a score that loses against spelling out their name. That takes characters that
    are all in the vocabulary, for an unknown one scores less than anything. With byte fallback, the byte piece of an
    ASCII character that has no piece is therefore called by that character: that is all that it stands for. Without,
    such characters become another unknown one, so that the names are not found.
    """
    names = list(pieces.names)
    for byte, index in pieces.byte_ids.items():
        if byte < 0x80 and chr(byte) not in pieces.normal:
            names[index] = chr(byte)
    others = set(range(len(names))) - set(pieces.normal.values())
    letters = set("".join(names[index] for index in others))
    lowest = min(pieces.scores[index] for index in pieces.normal.values())
    longest = max(len(names[index]) for index in others)
    vocabulary = [
        [name, lowest * longest - 1 if index in others and len(name) > 1 else score]
        for index, (name, score) in enumerate(zip(names, pieces.scores, strict=True))
    ]
    model = {
        "type": "Unigram",
        "unk_id": pieces.unk_id,
        "vocab": vocabulary,
        "byte_fallback": bool(pieces.byte_ids),
    }
    unknown = sorted(letters.difference(names))
    if not unknown:
        return model, []
    return model, [replace_regex("[" + "".join(rf"\x{{{ord(letter):X}}}" for letter in unknown) + "]", _UNKNOWN)]
