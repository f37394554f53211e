"""The names of splits: by use, and by the kind of the documents."""

from __future__ import annotations

SPLITS = ("train", "validation", "test")
# Of documents: an image with its caption; text without images; anything else, such as several images.
PAIRS, TEXT_ONLY, INTERLEAVED = KINDS = ("", "text", "interleaved")


def split_name(split: str, kind: str) -> str:
    """The name of the split that holds the documents of a kind: "train", "train.text", "train.interleaved"."""
    return f"{split}.{kind}" if kind else split


DOCUMENT_SPLITS = tuple(split_name(split, kind) for kind in KINDS for split in SPLITS)
