"""The loop against what happens to real runs: kills, preemptions, full disks."""

import dataclasses
import gzip
import json
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
import toy_process
from PIL import Image
from toy_process import kill, preempt, seen, wait_for

from cm3leon_jax.runtime.batches import batches_by_step, prefetched
from cm3leon_jax.runtime.checkpoints import Checkpoints
from cm3leon_jax.runtime.errors import EXIT_START_AGAIN, UserError
from cm3leon_jax.runtime.loop import LoopConfig, TrainingLoop
from cm3leon_jax.runtime.metrics import read_metrics

STEPS = 45


def start(directory, **settings):
    return toy_process.start(directory, STEPS, **settings)


def half_written(directory):
    return list(directory.glob("*tmp*"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    process = start(directory)
    assert process.wait(300) == 0, process.stderr.read()
    rows = seen(directory)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    return rows


def test_killed_preempted_and_killed_while_saving_a_run_ends_as_if_nothing_had_happened(tmp_path, uninterrupted):
    process = start(tmp_path, hold=(1.0, 18))
    wait_for(lambda: len(seen(tmp_path)) >= 15 and (tmp_path / "10").exists(), process)
    kill(process)
    done_before = len(seen(tmp_path))

    process = start(tmp_path, hold=(1.0, 17))
    wait_for(lambda: len(seen(tmp_path)) >= done_before + 5, process)
    assert preempt(process, tmp_path) == EXIT_START_AGAIN
    done_by_then, preempted_at = len(seen(tmp_path)), seen(tmp_path)[-1]["step"]

    process = start(tmp_path)
    wait_for(lambda: seen(tmp_path)[-1]["step"] > preempted_at and half_written(tmp_path), process)
    kill(process)
    assert half_written(tmp_path)

    process = start(tmp_path)
    assert process.wait(300) == 0, process.stderr.read()
    rows = seen(tmp_path)
    steps = [row["step"] for row in rows]
    assert steps[-1] == STEPS
    # Every step ever done, done again ones included, saw the same batch and had the same loss to the last bit.
    assert all(row == uninterrupted[row["step"] - 1] for row in rows)
    # The first kill costs the steps since the last checkpoint; the preemption costs none.
    assert steps[done_before] == 11 and steps[done_by_then] == preempted_at + 1
    assert not half_written(tmp_path)
    logged = [row["step"] for row in read_metrics(tmp_path)]
    assert logged == sorted(set(logged)) and logged[-1] == STEPS


def test_a_save_that_fails_stops_the_run_loudly(tmp_path):
    process = start(tmp_path, largest_file=2**16)
    _, errors = process.communicate(timeout=300)
    assert process.returncode not in (0, EXIT_START_AGAIN)
    assert "Traceback" in errors
    assert Checkpoints(tmp_path).latest_step() is None


def test_a_checkpoint_of_another_model_is_a_user_error(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.zeros(5)}, position={"step": 1}, config={"size": 5})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.config() == {"size": 5}
        for other in ({"w": jnp.zeros(6)}, {"v": jnp.zeros(5)}):
            with pytest.raises(UserError, match="another model"):
                checkpoints.restore(other)
        with pytest.raises(UserError, match="no checkpoint"):
            Checkpoints(tmp_path / "empty").restore({"w": jnp.zeros(5)})


def test_evaluation_and_on_step_run_when_due(tmp_path):
    calls = []
    TrainingLoop(
        config=LoopConfig(steps=5, log_every=2, evaluate_every=2, checkpoint_every=100),
        train_step=lambda state, batch: ({"sum": state["sum"] + batch}, {"loss": state["sum"]}),
        make_batches=batches_by_step(lambda step: np.float32(step)),
        directory=tmp_path,
        label="toy",
        saved_config={},
        evaluate=lambda state, step: {"state": float(state["sum"])},
        on_step=lambda step, state: calls.append(step),
        rates=lambda metrics, speed: {"double": 2 * metrics["loss"]},
    ).run({"sum": jnp.zeros(())})
    assert calls == [2, 4, 5]
    rows = read_metrics(tmp_path)
    assert [row["eval/state"] for row in rows if "eval/state" in row] == [1.0, 6.0, 10.0]
    assert all(row["train/double"] == 2 * row["train/loss"] for row in rows if "train/loss" in row)


def test_an_evaluation_that_fails_loses_no_steps(tmp_path):
    def fail(state, step):
        raise UserError("too large")

    loop = TrainingLoop(
        config=LoopConfig(steps=8, evaluate_every=4, checkpoint_every=4),
        train_step=lambda state, batch: ({"sum": state["sum"] + batch}, {"loss": state["sum"]}),
        make_batches=batches_by_step(lambda step: np.float32(step)),
        directory=tmp_path,
        label="toy",
        saved_config={},
        evaluate=fail,
    )
    with pytest.raises(UserError, match="too large"):
        loop.run({"sum": jnp.zeros(())})
    assert Checkpoints(tmp_path).latest_step() == 4


def initial():
    return {"step": jnp.zeros((), jnp.int32)}


def steps_of(finite):
    """The arguments of a loop whose updates are skipped except where `finite(step)`."""

    def train_step(state, batch):
        new = state["step"] + 1
        good = jnp.float32(finite(int(new)))
        return {"step": new}, {"loss": jnp.where(good == 1, 1.0, jnp.nan), "finite": good}

    return {
        "train_step": train_step,
        "make_batches": batches_by_step(lambda step: step),
        "label": "toy",
        "saved_config": {},
    }


def test_skipped_steps_are_named_at_once_and_too_many_in_a_row_stop_the_run(tmp_path):
    loop = LoopConfig(steps=30, log_every=7, checkpoint_every=10, max_skipped_in_a_row=3)
    bad = {1, 5, 6, 12, 21, 22, 23}
    with pytest.raises(UserError, match=r"not finite in 3 steps in a row, up to step 23: lower the learning rate"):
        TrainingLoop(config=loop, directory=tmp_path, **steps_of(lambda step: step not in bad)).run(initial())

    def rows():
        return [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]

    assert [row["step"] for row in rows()] == sorted(bad)
    # A position leads to the very batch: batch n of this stream is n.
    make_batches = batches_by_step(lambda step: step)
    assert [next(make_batches(row["position"]))[0] for row in rows()] == [step - 1 for step in sorted(bad)]
    assert rows()[0]["metrics"] == {"loss": "nan", "finite": 0.0}
    logged = read_metrics(tmp_path)
    assert [row["step"] for row in logged] == [7, 14, 21] and "train/finite" not in logged[0]

    # Started again behind step 20 it meets them again, and notes them once. Without a limit it goes on.
    TrainingLoop(
        config=dataclasses.replace(loop, max_skipped_in_a_row=0),
        directory=tmp_path,
        **steps_of(lambda step: step not in bad),
    ).run(initial())
    assert [row["step"] for row in rows()] == sorted(bad)


def test_a_mean_over_nothing_is_not_logged(tmp_path):
    """NaN is, where the step was not finite: there it is what happened."""
    metrics_of = {1: {"loss": 1.0, "rare": np.nan, "finite": 1.0}, 2: {"loss": np.nan, "rare": 2.0, "finite": 0.0}}
    arguments = steps_of(lambda step: True)
    arguments["train_step"] = lambda state, batch: (
        {"step": state["step"] + 1},
        {name: jnp.float32(value) for name, value in metrics_of[batch + 1].items()},
    )
    TrainingLoop(config=LoopConfig(steps=2, log_every=1), directory=tmp_path, **arguments).run(initial())
    first, second = read_metrics(tmp_path)
    assert first["train/loss"] == 1 and "train/rare" not in first
    assert np.isnan(second["train/loss"]) and second["train/rare"] == 2


def test_the_steps_that_are_asked_for_are_profiled(tmp_path):
    loop = LoopConfig(steps=6, profile_steps="2:3")
    TrainingLoop(config=loop, directory=tmp_path, **steps_of(lambda step: True)).run(initial())
    (trace,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = {int(event["args"]["step_num"]) for event in events if event.get("name") == "train"}
    assert steps == {2, 3}
    for wrong in ("3:2", "0:2", "ten"):
        with pytest.raises(UserError, match="FIRST:LAST"):
            TrainingLoop(
                config=LoopConfig(steps=6, profile_steps=wrong), directory=tmp_path, **steps_of(lambda step: True)
            ).run(initial())


def test_a_loop_tells_where_its_time_went_and_shows_its_pictures(tmp_path, capsys, monkeypatch):
    Image.new("RGB", (3, 2)).save(tmp_path / "drawn.png")
    # A clock on which a batch takes 3 seconds and a step 1; batches are not made in advance, which would depend on it.
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("cm3leon_jax.runtime.loop.prefetched", lambda batches: batches)
    arguments = steps_of(lambda step: True)
    step_of = arguments["train_step"]

    def taking(seconds, function):
        def call(*of):
            clock[0] += seconds
            return function(*of)

        return call

    arguments["make_batches"] = batches_by_step(taking(3.0, lambda step: step))
    arguments["train_step"] = taking(1.0, step_of)
    TrainingLoop(
        config=LoopConfig(steps=20, log_every=10),
        directory=tmp_path / "run",
        on_step=lambda step, state: {"drawn": tmp_path / "drawn.png"},
        rates=lambda metrics, speed: {"tokens_per_second": 12345.0, "mfu": 0.41},
        **arguments,
    ).run(initial())
    for row in read_metrics(tmp_path / "run"):
        assert row["train/input_wait"] == pytest.approx(3 / 4)
        assert 0 <= row["train/goodput"] <= 1 and row["train/seconds"] > 0
    (events,) = (tmp_path / "run/tensorboard").iterdir()
    assert (tmp_path / "drawn.png").read_bytes() in events.read_bytes()
    status = capsys.readouterr().err
    assert "loss 1.0000, 12,345 tokens/s, MFU 41%, goodput" in status


def test_an_error_in_the_stream_is_raised_where_its_batch_was_due():
    def broken():
        yield 1
        raise OSError("disk")

    batches = prefetched(broken())
    assert next(batches) == 1
    with pytest.raises(OSError, match="disk"):
        next(batches)


def test_when_the_stream_is_closed_its_thread_has_ended():
    making, made = threading.Event(), []

    def slow():
        yield 0
        making.set()
        time.sleep(0.5)
        made.append(1)
        yield 1

    batches = prefetched(slow())
    assert next(batches) == 0
    assert making.wait(10)
    batches.close()
    assert made == [1]
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}
