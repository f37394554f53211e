"""Programs that do not answer, in `benchmarks/train_step.py`: they are left out, and no process of theirs is left."""

import dataclasses
import json
import os
import pathlib
import select
import signal
import subprocess
import sys

import pytest
import train_step
from programs import Program
from worker import Unavailable, Worker

FOLDER = pathlib.Path(__file__).parent
ENVIRONMENT = {"PYTHONPATH": str(FOLDER)}
TARGET = "stand_in:StandIn"
LONG, SHORT = 1000.0, 1.0  # limits: nothing that answers needs the first, and what sleeps exceeds the second


@pytest.fixture
def pipe(tmp_path):
    """A FIFO's path. At the end nobody may hold it open: whoever did has ended."""
    path = tmp_path / "held"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    held = os.open(path, os.O_WRONLY)
    yield str(path)
    os.close(held)
    ended, _, _ = select.select([end], [], [], 60.0)  # readable at its end: nothing is ever written
    os.close(end)
    assert ended, "a process that a program started is left behind"


def worker(pipe: str, limit_seconds: float | None = LONG, **settings) -> Worker:
    return Worker("it", TARGET, {"pipe": pipe, **settings}, ENVIRONMENT, limit_seconds=limit_seconds)


@dataclasses.dataclass(frozen=True)
class Limited(Program):
    """A program with limits of its own: only those that sleep are to exceed them, however slow the machine is."""

    ready: float = LONG
    answer: float = LONG

    def start(self, name: str, limit_seconds: float) -> Worker:
        assert limit_seconds == 77.0  # the one that was given
        worker = super().start(name, self.ready)
        worker.limit_seconds = self.answer
        return worker


def test_one_that_answers(pipe):
    one = worker(pipe, seconds=0.5)
    assert one.unavailable is None and one.about["dtype"] == "float32"
    assert one.run(3) == {"seconds": 1.5}
    one.close()


@pytest.mark.parametrize(
    "fault, reason",
    [
        ("sleep", "not ready after 1 s"),
        ("exit", "not ready: ended with status 3"),
        ("kill", "not ready: ended with status -9"),
        ("raise", "ValueError: a bad size"),
    ],
)
def test_one_that_is_not_ready(pipe, fault, reason):
    one = worker(pipe, SHORT if fault == "sleep" else LONG, fault=fault)
    assert one.unavailable == reason
    with pytest.raises(Unavailable, match=reason):
        one.run(1)
    one.close()


@pytest.mark.parametrize(
    "fault, reason",
    [
        ("sleep", "no answer after 1.5 s"),
        ("exit", "no answer: ended with status 3"),
        ("raise", "no answer: ended with"),
    ],
)
def test_one_that_gives_no_answer(pipe, fault, reason):
    one = worker(pipe, fault=fault, call=2)
    assert one.run(1)
    if fault == "sleep":
        one.limit_seconds = SHORT
    with pytest.raises(Unavailable, match=reason):
        one.run(1, expected_seconds=0.5)
    assert one.unavailable.startswith(reason)
    one.close()


def test_one_that_has_died_between_two_answers(pipe):
    one = worker(pipe)
    os.kill(one._process.pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="ended with status -9"):
        one.run(1)
    one.close()


def test_the_others_are_measured_and_the_line_names_what_is_missing(pipe, monkeypatch, capsys):
    def stand_in(ready: float = LONG, answer: float = LONG, **settings) -> Program:
        return Limited(TARGET, {"pipe": pipe, **settings}, ENVIRONMENT, ready=ready, answer=answer)

    programs = {
        "ours_bfloat16": stand_in(seconds=0.001, dtype="bfloat16"),
        "ours_float32": stand_in(fault="exit", call=3),
        "torch_float32_eager": stand_in(seconds=0.003),
        "torch_float32_compiled": stand_in(ready=SHORT, seconds=0.002, fault="sleep"),
        "torch_autocast_eager": stand_in(seconds=0.004, dtype="bfloat16"),
        "torch_autocast_compiled": stand_in(answer=SHORT, seconds=0.002, fault="sleep", call=2),
    }
    monkeypatch.setattr(train_step, "programs_of", lambda *_: programs)
    monkeypatch.setattr(sys, "argv", ["train_step.py", "--rounds=3", "--seconds=0.01", "--limit_seconds=77"])
    train_step.main()
    line = json.loads(capsys.readouterr().out)
    assert line["unavailable"] == {
        "ours_float32": "no answer: ended with status 3 in round 2 of 3",
        "torch_float32_compiled": "not ready after 1 s",
        "torch_autocast_compiled": "no answer after 1.01 s in round 1 of 3",
    }
    assert {name: program["dtype"] for name, program in line["programs"].items()} == {
        "ours_bfloat16": "bfloat16",
        "torch_float32_eager": "float32",
        "torch_autocast_eager": "bfloat16",
    }
    assert line["peer"] == "torch_float32_eager"
    assert line["peers_missing"] == ["torch_float32_compiled", "torch_autocast_compiled"]
    assert line["ratios"] == {"ours_bfloat16": {"torch_float32_eager": 3.0, "torch_autocast_eager": 4.0}}
    assert [goal["peer"] for goal in line["goals"]] == ["torch_float32_eager"]
    assert line["limit_seconds"] == 77 and line["only"] == []
    assert line["machine"]["processor"] and line["machine"]["cores"] == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_programs_end_when_their_benchmark_is_ended(pipe, number):
    program = f"""
import argparse, json, os, signal, sys
from programs import Program
from rounds import measure
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background of a shell ignore it
programs = {{
    name: Program({TARGET!r}, {{"pipe": {pipe!r}, "fault": fault}}, {ENVIRONMENT!r})
    for name, fault in [("first", ""), ("second", "sleep")]
}}
measure(programs, argparse.Namespace(programs="", device="cpu", rounds=1, seconds=1.0, limit_seconds=1000.0))
"""
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parents[1] / "benchmarks")}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert any(line == "starting second\n" for line in process.stderr)
        process.send_signal(number)
    assert process.returncode == -number
