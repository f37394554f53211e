"""How CLIP's tokenizer reads a text: normalised, cut into words, each byte written as a visible character."""

from __future__ import annotations

import re
import unicodedata

# Unicode's White_Space; Python's `\s` has four control characters more.
_SPACES = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_CONTRACTION = re.compile("'(?:s|t|re|ve|m|ll|d)")
_RUN = re.compile(" +|L+|N|S+")


def normalize(text: str) -> str:
    """Unicode NFC, runs of white space as one space, lower case (each character by itself)."""
    text = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    return "".join(map(str.lower, _SPACES.sub(" ", text)))


def split_words(text: str) -> list[str]:
    """Normalised text -> English contractions, runs of letters, single digits, and runs of anything else."""
    kinds = "".join(map(_kind, text))
    words, start = [], 0
    while start < len(text):
        match = _CONTRACTION.match(text, start) or _RUN.match(kinds, start)
        assert match
        if kinds[start] != " ":
            words.append(text[start : match.end()])
        start = match.end()
    return words


def _kind(character: str) -> str:
    """L: letter, N: number, " ": space, S: any other symbol."""
    category = unicodedata.category(character)[0]
    return category if category in "LN" else " " if character == " " else "S"


def _byte_characters() -> list[str]:
    """How each byte is written in the vocabulary: as its Latin-1 character where that can be seen, else as one of those
    from U+0100 on, in order (GPT-2's table; Radford et al. 2019)."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


BYTE_CHARACTERS = _byte_characters()
