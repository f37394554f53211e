"""The names of splits: by use, and by the kind of the documents."""

from __future__ import annotations

import hashlib
import json
from typing import Any

SPLITS = ("train", "validation", "test")
# Of documents: an image with its caption; text without images; anything else, such as several images.
PAIRS, TEXT_ONLY, INTERLEAVED = KINDS = ("", "text", "interleaved")


def split_name(split: str, kind: str) -> str:
    """The name of the split that holds the documents of a kind: "train", "train.text", "train.interleaved"."""
    return f"{split}.{kind}" if kind else split


def is_held_out(name: str) -> bool:
    """Whether the documents of a split, of whatever kind, are never trained on."""
    return name.partition(".")[0] != "train"


def hashed_split(value: Any, held_out_share: float) -> str:
    """The split that a JSON-able value is of, by its hash; validation and test have `held_out_share` of all, each."""
    digest = hashlib.blake2b(json.dumps(value).encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "little") / 2**64
    if position < held_out_share:
        return "test"
    return "validation" if position < 2 * held_out_share else "train"


DOCUMENT_SPLITS = tuple(split_name(split, kind) for kind in KINDS for split in SPLITS)
