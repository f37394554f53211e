"""How METEOR 1.5 rewrites a text before it is aligned (its option -norm), for English."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Latin and Cyrillic, with what its authors counted among them.
_LETTERS = (
    "A-Za-z\u0160\u0161\u017d\u017e\u0178\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017e\u0400-\u0527"
    "\ua640-\ua66e\ua67e-\ua697\u1d00-\u1d7f"
)
_BLANKS = r" \t\n\v\f\r"  # Java's white space is ASCII's

# Punctuation off the words, commas not between digits, one form of quotes and dashes, hyphenated words in two, and
# contractions with their apostrophe: each rule sees what those before it have left.
_RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (rf"([^0-9{_LETTERS}{_BLANKS}.'`,\-\u2018\u2019])", r" \1 "),
        (r"\.{2,}", r" \g<0> "),
        (r"([^0-9]),([^0-9])", r"\1 , \2"),
        (r"([0-9]),([^0-9])", r"\1 , \2"),
        (r"([^0-9]),([0-9])", r"\1 , \2"),
        (r"[`\u2018\u2019]", "'"),
        (r"[\u201c\u201d]|''", ' " '),
        (r"\u2013|--", "-"),
        (rf"([0-9{_LETTERS}.])-([0-9{_LETTERS}])", r"\1 \2"),
        (rf"([^{_LETTERS}])'([^{_LETTERS}])", r"\1 ' \2"),
        (rf"([^0-9{_LETTERS}])'([{_LETTERS}])", r"\1 ' \2"),
        (rf"([{_LETTERS}])'([^{_LETTERS}])", r"\1 ' \2"),
        (rf"([{_LETTERS}])'([{_LETTERS}])", r"\1 '\2"),
        (r"([0-9])'s", r"\1 's"),
    ]
]
_SPACES = re.compile("[ \u2000-\u200a\u202f\u205f\u3000\u00a0]+")


def normalize(text: str, prefixes: Mapping[str, bool]) -> list[str]:
    """A text and the abbreviations that keep their period (True: only before numbers) -> its words, lower-cased."""
    text = f" {text} "
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    words = [word for word in re.split(f"[{_BLANKS}]+", text) if word]
    followed = zip(words, [*words[1:], ""], strict=False)
    return _SPACES.sub(" ", " ".join(_period(word, after, prefixes) for word, after in followed)).lower().split()


def _period(word: str, after: str, prefixes: Mapping[str, bool]) -> str:
    """A word with its last period cut off, unless it is an abbreviation's or the sentence goes on in lower case."""
    stem = word[:-1]
    if not stem or not word.endswith(".") or not stem.strip("."):
        return word
    if "." in stem and re.search(f"[{_LETTERS}]", stem):
        return word.replace(".", "")
    numeric_only = prefixes.get(stem)
    if numeric_only is False or re.match("[a-z]", after) or (numeric_only and re.match("[0-9]", after)):
        return word
    return f"{stem} ."
