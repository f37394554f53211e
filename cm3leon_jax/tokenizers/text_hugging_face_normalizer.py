"""SentencePiece's normalization in terms of the normalizers of Hugging Face's `tokenizers`.

Their `Precompiled` reads SentencePiece's rules but applies them to whole graphemes of under 6 bytes or to single
characters: it loses accents that follow a rewritten letter and never composes what takes three characters. Their NFC
reorders marks and composes across others, which SentencePiece does not. So texts are taken apart first: "▁" (which
never occurs in text here: it is read as a space) before every character that is not ASCII, "▁▁" where a rule joins
the character to those before it. Then each character is rewritten alone, and NFC composes what was joined.
"""

from __future__ import annotations

import base64
import functools
import graphlib
import itertools
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.tokenizers.sentencepiece_rules import read_rules

SPACE = "\u2581"  # how SentencePiece writes a space
_APART = SPACE
_JOINED = SPACE * 2


def normalizer(charsmap: bytes) -> dict[str, Any]:
    """A model's `precompiled_charsmap` (empty: identity) -> the JSON of an equal normalizer.

    Spaces come out as SentencePiece's defaults have them: single, one before the text, none after it, written "▁".
    Raises `UserError` on rules that cannot be expressed: they must be those of "nfkc".
    """
    steps = [
        replace(SPACE, " "),
        # First, as `tokenizers` fails or loses text after steps that add characters at the very beginning.
        {"type": "Prepend", "prepend": SPACE},
        *(_rewritings(charsmap) if charsmap else []),
        replace_regex(rf"(?<=\A{SPACE}) +| +\z", ""),
        replace_regex(" +", SPACE),
        replace_regex(rf"\A{SPACE}\z", ""),
    ]
    return {"type": "Sequence", "normalizers": steps}


def replace(string: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": string}, "content": content}


def replace_regex(regex: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": regex}, "content": content}


@functools.lru_cache(maxsize=1)  # takes seconds, and all models with "nfkc" have the same
def _rewritings(charsmap: bytes) -> tuple[dict[str, Any], ...]:
    rules = read_rules(charsmap)
    _check(rules)
    return (
        replace_regex(rf"(?<=[^{SPACE}])(?=[^\x00-\x7F])", _APART),
        replace_regex(_joints(rules), _JOINED),
        {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
        *(replace(first + _JOINED + second, output) for first, second, output in _late_compositions(rules)),
        replace(_JOINED, ""),
        {"type": "NFC"},
        replace_regex(rf"(?<!\A){_APART}", ""),
    )


def _check(rules: dict[str, str]) -> None:
    """`UserError` unless the rules have the form that the steps rely on."""
    for string, output in rules.items():
        if len(string) == 1:
            fits = output and SPACE not in string + output
        else:  # one more character than another rule; NFC finds the output, or we say it (`_late_compositions`)
            fits = len(output) == 1 and not string[1:].isascii() and (len(string) == 2 or string[:-1] in rules)
            fits = fits and (_is_late(output) or unicodedata.normalize("NFC", _alone(string, rules)) == output)
        if not fits:
            raise UserError(
                f"the text tokenizer rewrites {string!r} to {output!r}, which Hugging Face's tokenizers cannot; export"
                " a tokenizer with normalization 'nfkc' or 'identity'"
            )


def _alone(string: str, rules: dict[str, str]) -> str:
    """A string with each character rewritten by itself."""
    return "".join(rules.get(character, character) for character in string)


def _joints(rules: dict[str, str]) -> str:
    """A regular expression of each "▁" that stands between characters that a rule takes together.

    What begins a rule is never inside of another, but for scripts of `_late_compositions`. So it is enough to see the
    characters before the "▁" and the one behind it: they are a rule, or the beginning of a longer one.
    """
    joins = [string for string in rules if len(string) > 1]
    seconds = _character_class(character for string in joins for character in string[1:])
    places = []
    for _, strings in itertools.groupby(sorted(joins, key=lambda string: (len(string), string)), len):
        for *before, last in _products(set(strings)):
            behind = "".join(_character_class(characters) + _APART for characters in before)
            places.append(f"(?={_character_class(last)})(?<={behind})")
    return f"{_APART}(?={seconds})(?:{'|'.join(places)})"


def _products(strings: set[str]) -> list[tuple[frozenset[str], ...]]:
    """Strings of one length as a union of products of sets of characters, few of them."""
    if strings == {""}:
        return [()]
    beginnings = defaultdict(set)
    for string in strings:
        beginnings[string[-1]].add(string[:-1])
    ends = defaultdict(set)
    for end, before in beginnings.items():
        ends[frozenset(before)].add(end)
    return [
        (*product, frozenset(last))
        for before, last in sorted(ends.items(), key=lambda item: min(item[1]))
        for product in _products(set(before))
    ]


def _character_class(characters: Iterable[str]) -> str:
    """-> "[...]" of a regular expression, with ranges."""
    codes = sorted(set(map(ord, characters)))
    ranges = []
    for _, run in itertools.groupby(enumerate(codes), lambda item: item[1] - item[0]):
        inside = [code for _, code in run]
        ranges.append(rf"\x{{{inside[0]:X}}}" + (rf"-\x{{{inside[-1]:X}}}" if len(inside) > 1 else ""))
    return f"[{''.join(ranges)}]"


def _is_late(output: str) -> bool:
    """Whether an NFC of old Unicode tables may not compose it: since Unicode 5 all new ones are above U+FFFF."""
    return ord(output) > 0xFFFF


def _late_compositions(rules: dict[str, str]) -> list[tuple[str, str, str]]:
    """(first, second, output) of pairs to compose before NFC, in an order that gives what left to right gives.

    In some scripts a character can be the second of one pair and the first of another: the former goes first.
    """
    pairs = {}
    for string, output in sorted(rules.items()):
        if len(string) > 1 and _is_late(output):
            before = string[:-1]
            pairs[rules.get(before, before), _alone(string[-1], rules)] = output
    earlier = {
        pair: [other for other in pairs if other != pair and (other[1] == pair[0] or pairs[other] in pair)]
        for pair in pairs
    }
    return [(*pair, pairs[pair]) for pair in graphlib.TopologicalSorter(earlier).static_order()]
