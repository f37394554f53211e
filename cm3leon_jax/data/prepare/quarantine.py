"""What is left out of the prepared data, and why: examples that cannot be used, and duplicates."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator

from cm3leon_jax.data.prepare.duplicates import REASONS, left_out
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.parts import part_sizes, read_labels, read_quarantined
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, written_aside

QUARANTINE_FILE = "quarantine.jsonl"


def check_bad_share(job: Job) -> int:
    """-> how many examples cannot be used. `UserError` where it is a larger share than is allowed; they are listed."""
    shards = range(len(job.shards))
    bad = sum(len(rows) for shard in shards for rows in read_quarantined(job, shard).values())
    total = bad + sum(documents for shard in shards for documents in part_sizes(job, shard).values())
    if bad > job.settings.prepare.max_bad_share * total:
        path = job.path(QUARANTINE_FILE)
        write_quarantine(path, job, duplicates=False)
        first = next(_rows(job, duplicates=False))
        raise UserError(
            f"{bad} of {total} examples of {job.source.name} cannot be used (the first: {first['id']}: "
            f"{first['reason']}): mend those listed in {path}, or raise the share that is allowed "
            "(PrepareConfig.max_bad_share)"
        )
    return bad


def write_quarantine(path: Path, job: Job, *, duplicates: bool) -> dict[str, int]:
    """Writes a line of JSON, {"split", "id", "reason"}, for each example that is left out; of a duplicate also its kind
    and what is kept instead, {"kind", "kept"} -> how many duplicates there are of each kind."""
    found: collections.Counter[str] = collections.Counter()
    with written_aside(path) as aside, open(aside, "w", encoding="utf-8") as file:
        for row in _rows(job, duplicates=duplicates):
            if "kind" in row:
                found[row["kind"]] += 1
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return {kind: found[kind] for kind in REASONS if kind in found}


def _rows(job: Job, *, duplicates: bool) -> Iterator[dict]:
    for shard in range(len(job.shards)):
        without = left_out(job, shard) if duplicates else {}
        for split, quarantined in read_quarantined(job, shard).items():
            for id, reason in quarantined:
                yield {"split": split, "id": id, "reason": reason}
            if split in without:
                ids = read_labels(job, shard, split).ids
                for row, why in sorted(without[split].items()):
                    reason = REASONS[why.kind].format(kept=why.kept)
                    yield {"split": split, "id": ids[row], "reason": reason, "kind": why.kind, "kept": why.kept}
