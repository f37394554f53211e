"""The English (Porter2) stemmer of Snowball, as METEOR 1.5 uses it."""

from __future__ import annotations

import functools
import re

_VOWEL = "[aeiouy]"
_WHOLE = {
    "skis": "ski",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "idly": "idl",
    "gently": "gentl",
    "ugly": "ugli",
    "early": "earli",
    "only": "onli",
    "singly": "singl",
    **{word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")},
}
_WHOLE_AFTER_PLURAL = {"inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"}
_REGION = re.compile(rf"{_VOWEL}[^aeiouy]")
_EARLY_REGION = re.compile("gener|commun|arsen")
_SHORT_SYLLABLE = re.compile(rf"(?:[^aeiouy]{_VOWEL}[^aeiouywxY]|^{_VOWEL}[^aeiouy])$")
_DOUBLE = re.compile("(?:bb|dd|ff|gg|mm|nn|pp|rr|tt)$")

# Endings and what they become, longer ones first.
_STEP_2 = """
ization:ize ational:ate fulness:ful ousness:ous iveness:ive tional:tion biliti:ble lessli:less
entli:ent ation:ate alism:al aliti:al ousli:ous iviti:ive fulli:ful
enci:ence anci:ance abli:able izer:ize ator:ate alli:al bli:ble ogi:og li:
"""
_STEP_3 = "ational:ate tional:tion alize:al icate:ic iciti:ic ative: ical:ic ness: ful:"
_STEP_4 = "ement ance ence able ible ment ant ent ism ate iti ous ive ize ion al er ic"


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A lower-cased English word -> its stem. Porter, 2001, "Snowball: a language for stemming algorithms", English."""
    if len(word) < 3:
        return word
    if word in _WHOLE:
        return _WHOLE[word]
    word = word.removeprefix("'")
    # "Y" is a consonant: at the start, or after a vowel.
    word = re.sub("^y|(?<=[aeiouy])y", "Y", word)
    first, second = _regions(word)
    word = _plural(_possessive(word))
    if word not in _WHOLE_AFTER_PLURAL:
        word = _final_y(_past(word, first))
        word = _replaced(word, _STEP_2, first, second)
        word = _replaced(word, _STEP_3, first, second)
        word = _final_letter(_deleted(word, second), first, second)
    return word.replace("Y", "y")


def _regions(word: str) -> tuple[int, int]:
    """Where the regions R1 and R2 begin: after the first vowel with a consonant behind it, and again after that."""
    early = _EARLY_REGION.match(word) or _REGION.search(word)
    first = early.end() if early else len(word)
    later = _REGION.search(word, first)
    return first, later.end() if later else len(word)


def _possessive(word: str) -> str:
    return re.sub("(?:'s'|'s|')$", "", word)


def _plural(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and re.search(_VOWEL, word[:-2]):
        return word[:-1]
    return word


def _past(word: str, first: int) -> str:
    if ending := re.search("eed(?:ly)?$", word):
        return word[: ending.start()] + "ee" if ending.start() >= first else word
    ending = re.search("(?:ed|ing)(?:ly)?$", word)
    if not ending or not re.search(_VOWEL, word[: ending.start()]):
        return word
    word = word[: ending.start()]
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _DOUBLE.search(word):
        return word[:-1]
    return word + "e" if first >= len(word) and _SHORT_SYLLABLE.search(word) else word


def _final_y(word: str) -> str:
    return re.sub("(?<=.[^aeiouy])[yY]$", "i", word)


def _replaced(word: str, table: str, first: int, second: int) -> str:
    endings = _endings(table)
    ending = next((ending for ending in endings if word.endswith(ending)), None)
    if ending is None or len(word) - len(ending) < (second if ending == "ative" else first):
        return word
    before = word[: -len(ending)]
    if (ending == "ogi" and before[-1:] != "l") or (ending == "li" and before[-1:] not in tuple("cdeghkmnrt")):
        return word
    return before + endings[ending]


@functools.cache
def _endings(table: str) -> dict[str, str]:
    return dict(entry.split(":") for entry in table.split())


def _deleted(word: str, second: int) -> str:
    ending = next((ending for ending in _STEP_4.split() if word.endswith(ending)), None)
    if ending is None or len(word) - len(ending) < second:
        return word
    before = word[: -len(ending)]
    return word if ending == "ion" and before[-1:] not in ("s", "t") else before


def _final_letter(word: str, first: int, second: int) -> str:
    before = word[:-1]
    if word.endswith("e"):
        deleted = len(before) >= second or (len(before) >= first and not _SHORT_SYLLABLE.search(before))
        return before if deleted else word
    return before if word.endswith("ll") and len(before) >= second else word
