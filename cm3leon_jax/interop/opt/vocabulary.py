"""A pretrained OPT of another vocabulary as the start of training: rows of the embedding for our ids.

A text piece that both tokenizers have keeps its row. Pieces that theirs lacks, image codes, `<break>`, `<eoss>` and
sentinels get random rows with the mean and deviation of theirs, column by column, so that nothing stands out.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.tensor_stream import StoredTensor
from cm3leon_jax.vocabulary import EOS_ID, NUM_CONTROL, PAD_ID, UNK_ID, Vocabulary

TOKENIZER_FILE = "tokenizer.json"
_ROWS = 1024  # that are made at once
_SPACE = "\u2581"


def their_tokens(folder: pathlib.Path) -> dict[str, int]:
    """Surface text of each token of a `tokenizer.json` -> its id; a space is a space. Raises `UserError`."""
    path = folder / TOKENIZER_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        if isinstance(vocabulary, list):  # unigram: [piece, score], in the order of ids
            vocabulary = {piece: index for index, (piece, _) in enumerate(vocabulary)}
        parts = json.dumps([content.get("pre_tokenizer"), content.get("decoder")])
        read = _from_bytes if "ByteLevel" in parts else _from_pieces
        return {text: int(index) for piece, index in vocabulary.items() if (text := read(piece)) is not None}
    except FileNotFoundError:
        raise UserError(f"{folder} lacks {TOKENIZER_FILE}, which says what its ids mean; copy it from there") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); copy it again") from None


def _from_pieces(piece: str) -> str:
    return piece.replace(_SPACE, " ")


def _byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others are numbered from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_letters()


def _from_bytes(piece: str) -> str | None:
    """None for a token that is not whole characters."""
    try:
        return bytes(_BYTE_OF[letter] for letter in piece).decode()
    except (KeyError, UnicodeDecodeError):
        return piece if not set(piece) <= _BYTE_OF.keys() else None


def same_rows(pieces: Sequence[str], tokens: dict[str, int], config: dict) -> dict[int, int]:
    """Our id -> theirs, for text pieces that both have and for the control ids that their `config.json` names."""
    found = {
        index: tokens[text]
        for index, piece in enumerate(pieces)
        if index >= NUM_CONTROL and (text := _from_pieces(piece)) in tokens
    }
    for ours, name in ((PAD_ID, "pad_token_id"), (EOS_ID, "eos_token_id"), (UNK_ID, "unk_token_id")):
        if isinstance(theirs := config.get(name), int):
            found[ours] = theirs
    return found


def extended_rows(
    stored: StoredTensor, same: dict[int, int], vocabulary: Vocabulary, seed: int = 0
) -> Iterator[np.ndarray]:
    """The rows of our embedding, float32 [V, D], some at a time."""
    count, width = stored.shape
    total, squares = np.zeros(width), np.zeros(width)
    for chunk in stored.chunks():
        total += chunk.sum(0, dtype=np.float64)
        squares += np.square(chunk.astype(np.float64)).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    rng = np.random.default_rng(seed)
    for start in range(0, vocabulary.size, _ROWS):
        stop = min(start + _ROWS, vocabulary.size)
        rows = (mean + deviation * rng.standard_normal((stop - start, width))).astype(np.float32)
        for index in range(start, stop):
            if index in same:
                rows[index - start] = stored.rows(same[index], same[index] + 1)[0]
        yield rows
