"""What is left out of the prepared data, and why: examples that cannot be used, and duplicates."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cm3leon_jax.data.prepare.duplicates import left_out
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.parts import Part, part_counts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, written_aside

QUARANTINE_FILE = "quarantine.jsonl"


def check_bad_share(job: Job) -> int:
    """-> how many examples cannot be used. `UserError` where it is a larger share than is allowed; they are listed."""
    counts = [count for shard in range(len(job.shards)) for count in (part_counts(job, shard) or {}).values()]
    bad, total = sum(bad for _, bad in counts), sum(documents + bad for documents, bad in counts)
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


def write_quarantine(path: Path, job: Job, *, duplicates: bool) -> int:
    """Writes a line of JSON, {"split", "id", "reason"}, for each example that is left out -> how many duplicates."""
    found = 0
    with written_aside(path) as aside, open(aside, "w", encoding="utf-8") as file:
        for row in _rows(job, duplicates=duplicates):
            found += row.pop("duplicate")
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return found


def _rows(job: Job, *, duplicates: bool) -> Iterator[dict]:
    for shard in range(len(job.shards)):
        without = left_out(job, shard) if duplicates else {}
        for split, (_, bad) in (part_counts(job, shard) or {}).items():
            if not bad and split not in without:
                continue
            part = Part.read(job, shard, split)
            for id, reason in part.quarantined:
                yield {"split": split, "id": id, "reason": reason, "duplicate": False}
            for row, reason in sorted(without.get(split, {}).items()):
                yield {"split": split, "id": part.ids[row], "reason": reason, "duplicate": True}
