"""Work on many rows, piece by piece: shared by several processes, and continued where it stopped.

A piece is a run of rows. Its results are one file that is there whole or not at all, so a piece is either finished or
done again.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.files import Path, local_path, write_json_lines, written_aside

RESULTS_FILE = "results.jsonl"


class Pieces:
    """Of `count` rows, `size` a piece, with results in the folder `out`. `own`: the pieces of this process, number ->
    rows; processes take them in turn."""

    def __init__(self, out: Path, count: int, size: int):
        self._out = local_path(out)
        self._count = -(-count // size)
        self.own = {
            number: range(number * size, min((number + 1) * size, count))
            for number in range(hosts.index(), self._count, hosts.count())
        }

    @property
    def due(self) -> dict[int, range]:
        """Those of `own` that are not finished."""
        return {number: rows for number, rows in self.own.items() if not self._file(number).exists()}

    def finish(self, number: int, results: Sequence[dict[str, Any]]) -> None:
        write_json_lines(self._file(number), results)

    def join(self) -> None:
        """Makes `RESULTS_FILE` of all pieces. Called by process 0, when all processes have finished theirs."""
        with written_aside(self._out / RESULTS_FILE) as aside, open(aside, "wb") as joined:
            for number in range(self._count):
                joined.write(self._file(number).read_bytes())

    def _file(self, number: int) -> pathlib.Path:
        return self._out / "pieces" / f"{number:05d}.jsonl"
