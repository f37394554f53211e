"""What counts as a space: the characters that text normalization (NFKC) writes as one. Ends of lines are none."""

from __future__ import annotations

import re

_SPACES = " \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_LEADING, _TRAILING = re.compile(f"^[{_SPACES}]+"), re.compile(f"[{_SPACES}]+$")


def strip_spaces(text: str) -> str:
    """The text without spaces at its ends."""
    return _TRAILING.sub("", _LEADING.sub("", text))


def leading_spaces(text: str) -> int:
    """How many spaces the text begins with."""
    found = _LEADING.match(text)
    return found.end() if found else 0
