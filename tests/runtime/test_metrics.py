"""Metrics and pictures reach their files, TensorBoard and Weights & Biases."""

import json
import struct
import sys
import types

import numpy as np
import pytest
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event

from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.metrics import MetricsWriter, open_writers, read_metrics
from cm3leon_jax.runtime.settings import LoopConfig


def events(directory):
    """What TensorBoard would read: records of a length, its checksum, so many bytes, their checksum."""
    found = []
    for path in (directory / "tensorboard").iterdir():
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(path)
    return path


def test_tensorboard_gets_scalars_and_pictures(tmp_path, picture):
    writer = MetricsWriter(tmp_path)
    writer.write(3, {"train/loss": 1.5})
    writer.picture(3, "samples", picture)
    writer.close()
    first, scalar, drawn = events(tmp_path)
    assert first.file_version == "brain.Event:2"
    assert (scalar.step, scalar.summary.value[0].tag, scalar.summary.value[0].simple_value) == (3, "train/loss", 1.5)
    image = drawn.summary.value[0].image
    assert (drawn.step, image.width, image.height, image.colorspace) == (3, 6, 4, 3)
    assert image.encoded_image_string == picture.read_bytes()


def test_lines_behind_the_step_that_is_resumed_from_are_dropped_and_one_that_was_cut_off_too(tmp_path):
    writer = MetricsWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write(step, {"loss": step})
    writer.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    writer = MetricsWriter(tmp_path, resume_step=2)
    writer.write(3, {"loss": 7})
    writer.close()
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 7.0}]


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "index", lambda: 1)
    writers = open_writers(LoopConfig(steps=1), tmp_path / "run", resume_step=0, saved_config={})
    writers.write(1, {"loss": 1.0})
    writers.picture(1, "samples", tmp_path / "none.png")
    writers.close()
    assert not (tmp_path / "run").exists()


def test_weights_and_biases_get_the_same_when_asked(tmp_path, picture, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finished")
    )
    wandb = types.ModuleType("wandb")
    wandb.init = lambda **arguments: calls.append(arguments) or run
    wandb.Image = lambda pixels: pixels.shape
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = LoopConfig(steps=1, wandb_project="pictures")
    for _ in range(2):
        writers = open_writers(config, tmp_path / "decoder" / "training", resume_step=0, saved_config={"layers": 2})
        writers.write(5, {"train/loss": 1.0})
        writers.picture(5, "samples", picture)
        writers.close()
    begun, *rest = calls[:4]
    assert (begun["project"], begun["name"], begun["config"]) == ("pictures", "decoder", {"layers": 2})
    assert rest == [(5, {"train/loss": 1.0}), (5, {"samples": (4, 6, 3)}), "finished"]
    assert calls[4]["id"] == begun["id"] and begun["resume"] == "allow"  # started again, the same run goes on
    assert json.loads((tmp_path / "decoder/training/metrics.jsonl").read_text())["train/loss"] == 1.0


def test_weights_and_biases_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install"):
        open_writers(LoopConfig(steps=1, wandb_project="x"), tmp_path, resume_step=0, saved_config={})
