"""What is left out of the prepared data, and why: examples that cannot be used, and exact duplicates."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np

from cm3leon_jax.data.prepare.parts import Part
from cm3leon_jax.runtime.files import written_aside

QUARANTINE_FILE = "quarantine.jsonl"


@dataclasses.dataclass(frozen=True)
class Survey:
    keep: dict[str, list[np.ndarray]]  # of each split, for each part: bool [n], which documents stay
    rows: list[dict[str, str]]  # {"split", "id", "reason"} of each example that does not
    duplicates: int

    @property
    def quarantined(self) -> int:
        """Examples that could not be used; duplicates are not among them."""
        return len(self.rows) - self.duplicates


def write_quarantine(path: pathlib.Path, rows: list[dict[str, str]]) -> None:
    """Writes a line of JSON for each example that is left out."""
    with written_aside(path) as aside:
        aside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def quarantine_rows(split: str, part: Part) -> list[dict[str, str]]:
    return [{"split": split, "id": id, "reason": reason} for id, reason in part.quarantined]


def survey(parts: dict[str, list[pathlib.Path]]) -> Survey:
    """Looks through all parts. Of equal images with equal captions the first stays, in the order of the splits: none
    is both trained on and held out."""
    ids: list[str] = []
    digests = []
    rows = []
    for split, paths in parts.items():
        for path in paths:
            part = Part.read(path)
            ids += part.ids
            digests.append(part.digests)
            rows += quarantine_rows(split, part)
    _, first, group = np.unique(np.concatenate(digests), return_index=True, return_inverse=True)
    original = first[group]  # of each document, the first that equals it
    is_first = original == np.arange(len(original))
    keep: dict[str, list[np.ndarray]] = {}
    start = 0
    sizes = iter(map(len, digests))
    for split, paths in parts.items():
        keep[split] = []
        for _ in paths:
            stop = start + next(sizes)
            keep[split].append(is_first[start:stop])
            for index in np.flatnonzero(~is_first[start:stop]) + start:
                reason = f"the same image and caption as {ids[original[index]]}"
                rows.append({"split": split, "id": ids[index], "reason": reason})
            start = stop
    return Survey(keep, rows, duplicates=int((~is_first).sum()))
