"""Metrics of a run: a line of JSON a step in `metrics.jsonl`, and TensorBoard beside it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from cm3leon_jax.runtime.files import Path, written_aside

METRICS_FILE = "metrics.jsonl"


class MetricsWriter:
    """Appends to `directory`. `resume_step` drops lines after that step, which a killed run may have left."""

    def __init__(self, directory: Path, *, resume_step: int = 0):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / METRICS_FILE
        kept = [row for row in read_metrics(directory) if row["step"] <= resume_step]
        with written_aside(self._path) as aside:
            aside.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._events = EventFileWriter(str(directory / "tensorboard"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        values = {name: float(value) for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        self._events.add_event(Event(step=step, summary=summary))

    def close(self) -> None:
        self._file.close()
        self._events.close()


def read_metrics(directory: Path) -> list[dict]:
    """The rows of `metrics.jsonl` below `directory`, oldest first. A last line cut off by a kill is passed over."""
    path = pathlib.Path(directory) / METRICS_FILE
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
