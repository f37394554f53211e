"""`tokenizer.json`, in which newer versions of transformers keep vocabulary and merges together."""

from __future__ import annotations

import pathlib

from cm3leon_jax.retrieval.clip.bpe import END_OF_WORD, BytePairTokenizer, pair
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import read_json

TOKENIZER_FILE = "tokenizer.json"


def read_tokenizer_file(path: pathlib.Path) -> BytePairTokenizer:
    """Raises `UserError` where the file is not that of a CLIP."""
    fields = read_json(path, what="tokenizer", make_with="save_pretrained")
    model = fields.get("model") if isinstance(fields, dict) else None
    if not isinstance(model, dict) or (model.get("type"), model.get("end_of_word_suffix")) != ("BPE", END_OF_WORD):
        raise UserError(f"{path} is not the tokenizer of a CLIP; take the file that was published with the weights")
    # A merge is "a b" in older files, ["a", "b"] in newer ones.
    merges = [pair(merge.split() if isinstance(merge, str) else merge) for merge in model.get("merges") or ()]
    return BytePairTokenizer(model.get("vocab") or {}, merges)
