"""Any token ids as one readable line."""

from __future__ import annotations

import itertools
from typing import Any, Protocol

import numpy as np

from cm3leon_jax.vocabulary import EOS_ID, PAD_ID, UNK_ID, Vocabulary


class TextDecoder(Protocol):
    """What of a text tokenizer is needed here."""

    def encode(self, text: str, /) -> np.ndarray: ...

    def decode(self, ids: Any, /) -> str: ...


def render(ids: np.ndarray, vocabulary: Vocabulary, text_tokenizer: TextDecoder | None = None) -> str:
    """Any ids -> one line: names of control ids and sentinels, text as text, images as `[image 64 codes]`.

    Never fails: what is no proper sequence is shown as it is. Without a text tokenizer, texts are `[text 9 ids]`.
    """
    parts: list[str] = []
    for name, run in itertools.groupby(np.asarray(ids).tolist(), lambda value: _name(value, vocabulary)):
        values = list(run)
        if name == "image":
            parts.append(f"[image {len(values)} codes]")
        elif name == "<pad>":
            parts.append(f"[padding {len(values)}]")
        elif name != "text":
            parts += [name] * len(values)
        elif text_tokenizer is None:
            parts.append(f"[text {len(values)} ids]")
        else:
            parts.append(text_tokenizer.decode(np.array(values, np.int32)))
    return " ".join(parts)


def _name(value: int, vocabulary: Vocabulary) -> str:
    if UNK_ID <= value < vocabulary.text_size:
        return "text"
    if vocabulary.image_offset <= value < vocabulary.break_id:
        return "image"
    if vocabulary.sentinel_offset <= value < vocabulary.used:
        return f"<sentinel:{value - vocabulary.sentinel_offset}>"
    names = {PAD_ID: "<pad>", EOS_ID: "<eos>", vocabulary.break_id: "<break>", vocabulary.eoss_id: "<eoss>"}
    return names.get(value, f"<unused:{value}>")
