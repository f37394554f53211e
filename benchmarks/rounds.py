"""Programs take turns, in rounds. One that does not answer within its limit is left out; the others are measured."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from typing import Any

from programs import Program
from worker import Unavailable, Worker

Rounds = list[dict[str, dict[str, Any]]]  # program -> what it measured


@dataclasses.dataclass(frozen=True)
class Measured:
    """`abouts`: what those programs say of themselves that were measured in all rounds. `unavailable`: why others were
    not."""

    abouts: dict[str, dict[str, Any]]
    rounds: Rounds
    unavailable: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    parser.add_argument("--device", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument("--programs", default="", help="only those whose names begin with one of these: a,b,c")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each program in each round")
    parser.add_argument(
        "--limit_seconds",
        type=float,
        default=240.0,
        help="a program that is not ready after so long, or does not answer, is ended and left out (240)",
    )


def measure(programs: dict[str, Program], arguments: argparse.Namespace) -> Measured:
    """Those of the programs that `arguments.programs` names.

    On a CPU all live at the same time, and take turns. Of a GPU's memory each needs most, and nobody else disturbs it:
    one after another.
    """
    wanted = tuple(arguments.programs.split(","))
    programs = {name: program for name, program in programs.items() if name.startswith(wanted)}
    groups = [programs] if arguments.device == "cpu" else [{name: program} for name, program in programs.items()]
    rounds: Rounds = [{} for _ in range(arguments.rounds)]
    workers: list[Worker] = []
    for group in groups:
        with contextlib.ExitStack() as stack:
            started = [_start(name, program, arguments.limit_seconds, stack) for name, program in group.items()]
            _take_turns([worker for worker in started if not worker.unavailable], rounds, arguments.seconds)
        workers += started
    unavailable = {worker.name: worker.unavailable for worker in workers if worker.unavailable}
    for answers in rounds:
        for name in unavailable:
            answers.pop(name, None)  # it answered in some of the rounds
    return Measured({worker.name: worker.about for worker in workers if not worker.unavailable}, rounds, unavailable)


def missing(measured: Measured, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the line says of programs that were not measured. `only`: all others were not asked for."""
    return {
        "limit_seconds": arguments.limit_seconds,
        "unavailable": measured.unavailable,
        "peers_missing": [name for name in measured.unavailable if name.startswith("torch")],
        "only": [prefix for prefix in arguments.programs.split(",") if prefix],
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _start(name: str, program: Program, limit_seconds: float, stack: contextlib.ExitStack) -> Worker:
    say(f"starting {name}")
    worker = program.start(name, limit_seconds)
    stack.callback(worker.close)
    if worker.unavailable:
        say(f"{name}: {worker.unavailable}")
    return worker


def _take_turns(workers: list[Worker], rounds: Rounds, seconds: float) -> None:
    """Adds each worker's answers, with the seconds of one step, to the rounds. Every other round is in reverse order.
    A worker that does not answer has no more turns."""
    steps = {}
    for worker in workers:
        tried = _run(worker, 2, 0.0, "before the rounds")
        steps[worker.name] = max(1, round(2 * seconds / tried["seconds"])) if "seconds" in tried else 1
    for number, answers in enumerate(rounds, start=1):
        for worker in workers if number % 2 else reversed(workers):
            if worker.unavailable:
                continue
            answer = _run(worker, steps[worker.name], seconds, f"in round {number} of {len(rounds)}")
            if "seconds" in answer:
                answer["seconds"] /= steps[worker.name]
            answers[worker.name] = answer
        measured = [worker.name for worker in workers if not worker.unavailable]
        if measured:
            say(f"round {number} of {len(rounds)}: {', '.join(measured)}")


def _run(worker: Worker, steps: int, seconds: float, when: str) -> dict[str, Any]:
    """Its answer; an empty one where none came."""
    try:
        return worker.run(steps, expected_seconds=seconds)
    except Unavailable as error:
        worker.unavailable = f"{error} {when}"
        say(f"{worker.name}: {worker.unavailable}")
        return {}
