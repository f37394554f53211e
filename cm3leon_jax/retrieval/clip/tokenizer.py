"""What a retriever reads its captions with: SentencePiece when it was trained here, CLIP's byte pairs when imported."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cm3leon_jax.retrieval.clip import bpe
from cm3leon_jax.runtime.files import Path, as_path, read_json
from cm3leon_jax.tokenizers.text import TextTokenizer

MAKE_WITH = "cm3leon train-retriever` or `cm3leon import"


class CaptionTokenizer(Protocol):
    """Text -> ids of the text encoder's table, which has `size` rows. `fingerprint` names the exact tokenizer."""

    size: int
    fingerprint: str
    start_id: int | None  # stands before every text; None: nothing does
    end_id: int  # stands behind every text; its output is the text's embedding

    def encode(self, text: str) -> np.ndarray:
        """-> ids, int32 [T], without start and end; neither ever comes out of a text."""

    def save(self, directory: Path) -> None:
        """Writes a folder that `load_tokenizer` reads."""


def load_tokenizer(directory: Path) -> CaptionTokenizer:
    """Reads the folder of either kind. Raises `UserError`."""
    fields = read_json(as_path(directory) / bpe.CONFIG_FILE, what="text tokenizer", make_with=MAKE_WITH)
    if fields.get("kind") == bpe.KIND:
        return bpe.BytePairTokenizer.load(directory)
    return TextTokenizer.load(directory)
