"""What preparing left out: how many examples for which reason, and the first of them."""

from __future__ import annotations

import json
import re
from collections import Counter

from cm3leon_jax.data.inspection.choosing import find
from cm3leon_jax.data.inspection.images import DecodedImages
from cm3leon_jax.data.prepare.quarantine import QUARANTINE_FILE
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.pages.pieces import Html, picture, section, table, text
from cm3leon_jax.runtime.errors import UserError

_THUMBNAIL = 128  # pixels a side
_MOST_READ = 200_000  # documents, to find those that stay: half a minute
_MOST_KINDS = 20  # reasons counted one by one
_LEAD = (
    "Examples that cannot be used, and duplicates. What was left out is not kept: of a duplicate, the document that "
    f"stays in its place is shown, if it is among the first {_MOST_READ:,}."
)


def left_out_section(data: PreparedData, images: DecodedImages, *, rows: int) -> str:
    """Counts by reason, and the first `rows` lines of the quarantine. `UserError`: its file is damaged."""
    path = data.directory / QUARANTINE_FILE
    if not path.exists():
        return section("left-out", "Left out", "", missing=f"<code>{QUARANTINE_FILE}</code> is not in the folder")
    counts: Counter[tuple[str, str]] = Counter()
    first: list[dict[str, str]] = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                counts[row["split"], _kind(row)] += 1
            except (ValueError, KeyError, TypeError):
                raise UserError(f"line {number} of {path} is damaged; copy it again, or delete the file") from None
            if len(first) < rows:
                first.append(row)
    if not counts:
        return section("left-out", "Left out", "", "<p>Nothing: every example of the source is in the data.</p>")
    return section("left-out", "Left out", _LEAD, _counts(counts), _first(data, images, first, counts.total()))


def _kind(row: dict[str, str]) -> str:
    """Reasons that differ in ids or numbers alone are of one kind."""
    if "kind" in row:
        return f"duplicate: {row['kind']}"
    return re.sub(r"\d[\d,.]*", "…", re.sub(r"'[^']*'", "'…'", row["reason"]))


def _counts(counts: Counter[tuple[str, str]]) -> str:
    rows = [(kind, split, f"{count:,}") for (split, kind), count in counts.most_common(_MOST_KINDS)]
    if others := counts.total() - sum(count for _, count in counts.most_common(_MOST_KINDS)):
        rows.append(("other reasons", "", f"{others:,}"))
    return table(("reason", "split", "examples"), rows, caption=f"{counts.total():,} examples were left out")


def _first(data: PreparedData, images: DecodedImages, rows: list[dict[str, str]], total: int) -> str:
    documents = find(data, data.splits, {row["kept"] for row in rows if "kept" in row}, most=_MOST_READ)
    images.add(shown.document for shown in documents.values())
    drawn = []
    for row in rows:
        instead = documents.get(row.get("kept", ""))
        image = "" if instead is None else picture(images.of(instead.document.image), "kept", largest=_THUMBNAIL)
        caption = "" if instead is None else f"{text(instead.document.caption)}<br><small>{text(instead.split)}</small>"
        drawn.append((row["id"], row["split"], row["reason"], Html(image), Html(caption)))
    head = ("left out", "split", "reason", "kept instead", "its caption")
    shown = f"all {total:,}" if total <= len(rows) else f"the first {len(rows):,} of {total:,}"
    return table(head, drawn, caption=f"What was left out: {shown}", mark="candidates")
