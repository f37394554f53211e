"""Why a duplicate is left out, in words, and what the words say: which document stays in its place."""

from __future__ import annotations

import re

SAME_ID = "its id '{id}' was there before"
SAME = "the same image and caption as {id}"
NEARLY = "nearly the same image as {id}, and the same caption"
_PATTERNS = {
    kind: re.compile(re.escape(reason).replace(re.escape("{id}"), "(?P<id>.+)"), re.DOTALL)
    for reason, kind in (
        (SAME_ID, "an id that was there before"),
        (SAME, "the same image and caption as another"),
        (NEARLY, "nearly the same image as another, and the same caption"),
    )
}


def kept_instead(reason: str) -> tuple[str, str] | None:
    """A reason in the quarantine -> (what kind of duplicate it tells of, the id of the document that stays); None
    where it tells of none."""
    for kind, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(reason):
            return kind, match["id"]
    return None
