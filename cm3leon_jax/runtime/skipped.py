"""Steps whose loss or gradient was not finite: which batches they were, and when there are too many of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import AppendedFile, Path, as_path, json_line, read_json_lines

SKIPPED_FILE = "skipped.jsonl"


class SkippedSteps:
    """Notes each skipped step in `directory`/skipped.jsonl as soon as it is known: its number, its metrics, and the
    position in the stream from which the next batch is exactly the one that was bad (null: the beginning)."""

    def __init__(self, directory: Path, *, limit: int, resume_step: int):
        self._path = as_path(directory) / SKIPPED_FILE
        self._limit, self._resume_step, self._in_a_row = limit, resume_step, 0
        self._file: AppendedFile | None = None

    def good(self) -> None:
        """A step was not skipped."""
        self._in_a_row = 0

    def note(self, step: int, position: dict | None, metrics: Mapping[str, float]) -> None:
        """A step was skipped. Raises `UserError` where it is one too many."""
        self._in_a_row += 1
        if hosts.is_first():
            if self._file is None:
                kept = [json_line(row) for row in read_json_lines(self._path) if row["step"] <= self._resume_step]
                self._file = AppendedFile(self._path, b"".join(kept))
            # JSON has no NaN.
            values = {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}
            self._file.write(json_line({"step": step, "position": position, "metrics": values}))
            self._file.flush(now=True)
        if self._limit and self._in_a_row >= self._limit:
            raise UserError(
                f"the loss or its gradient was not finite in {self._in_a_row} steps in a row, up to step {step}:"
                f" lower the learning rate, or look at the batches named in {self._path}"
            )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
