"""Metrics of a run: a line of JSON a step in `metrics.jsonl`, TensorBoard beside it, and Weights & Biases if asked for.

Process 0 writes them; in the others everything here does nothing.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.files import AppendedFile, Path, as_path, json_line, read_json_lines
from cm3leon_jax.runtime.settings import LoopConfig

METRICS_FILE = "metrics.jsonl"


class Writer(Protocol):
    """Where metrics and pictures of a run go."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def picture(self, step: int, name: str, path: Path) -> None:
        """A PNG file that was written at a step."""

    def close(self) -> None: ...


class MetricsWriter:
    """Appends to `directory`. `resume_step` drops lines after that step, which a killed run may have left."""

    def __init__(self, directory: Path, *, resume_step: int = 0):
        directory = as_path(directory)
        kept = [json_line(row) for row in read_metrics(directory) if row["step"] <= resume_step]
        self._lines = AppendedFile(directory / METRICS_FILE, b"".join(kept))
        self._events = EventFile(directory / "tensorboard")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        values = {name: float(value) for name, value in values.items()}
        self._lines.write(json_line({"step": step, **values}))
        self._lines.flush()
        self._events.write(step, [Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    def picture(self, step: int, name: str, path: Path) -> None:
        data = as_path(path).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            width, height, channels = image.width, image.height, len(image.getbands())
        drawn = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=data)
        self._events.write(step, [Summary.Value(tag=name, image=drawn)])

    def close(self) -> None:
        self._lines.close()
        self._events.close()


class EventFile:
    """A file of TensorBoard's in a folder. TensorBoard's own writer imports TensorFlow, which takes ten seconds."""

    def __init__(self, directory: Path):
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = AppendedFile(as_path(directory) / name)
        self._records = RecordWriter(self._file)
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, step: int, values: Sequence[Summary.Value]) -> None:
        self._add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _add(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        self._records.close()


class Writers:
    """Several writers as one; none is one too."""

    def __init__(self, *writers: Writer):
        self._writers = writers

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for writer in self._writers:
            writer.write(step, values)

    def picture(self, step: int, name: str, path: Path) -> None:
        for writer in self._writers:
            writer.picture(step, name, path)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


def open_writers(config: LoopConfig, directory: Path, *, resume_step: int, saved_config: dict) -> Writers:
    """What the settings ask for, in process 0; nothing in the others."""
    if not hosts.is_first():
        return Writers()
    writers: list[Writer] = []
    if config.wandb_project:
        from cm3leon_jax.runtime.wandb_writer import WandbWriter

        writers.append(WandbWriter(config.wandb_project, directory, saved_config))
    return Writers(MetricsWriter(directory, resume_step=resume_step), *writers)


def read_metrics(directory: Path) -> list[dict]:
    """The rows of `metrics.jsonl` below `directory`, oldest first. A last line cut off by a kill is passed over."""
    return read_json_lines(as_path(directory) / METRICS_FILE)
