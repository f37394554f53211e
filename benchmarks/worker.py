"""Programs that are compared live in processes of their own, so that threads, allocators and environments of one do not
disturb another, and take turns: each waits on a pipe until it is told to run.

A message is one line of JSON. The child says first what it has prepared, or {"unavailable": reason}; then it answers
each request of so many steps with what it measured. A child that takes longer than its limit is killed, with all
processes that it started. It kills them and itself when the parent ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import traceback
from typing import IO, Any, Protocol

_ENDING_SECONDS = 10.0  # a child that has closed its pipe, or is killed, needs this long at most until its end


class Program(Protocol):
    """What a child process measures."""

    about: dict[str, Any]  # said once

    def run(self, steps: int) -> dict[str, Any]:
        """Runs so many steps and says what was measured, `seconds` for all of them above all."""


def serve(target: str, settings: dict[str, Any]) -> None:
    """The child's life: `target`, "module:function", makes its program from `settings`."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print is no answer
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()

    module, function = target.split(":")
    try:
        program: Program = getattr(importlib.import_module(module), function)(**settings)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        print(json.dumps({"unavailable": f"{type(error).__name__}: {lines[0]}"[:300]}), file=answers)
        if not isinstance(error, ImportError):
            traceback.print_exc()
        return
    print(json.dumps(program.about), file=answers)
    while True:
        print(json.dumps(program.run(json.loads(requests.get()))), file=answers)


def _read_requests(requests: queue.Queue[bytes]) -> None:
    """Ends this process and those that it started when no more requests can come, whatever it is doing."""
    with open(0, "rb", buffering=0, closefd=False) as file:  # a buffer's lock would be held when the interpreter ends
        for line in file:
            requests.put(line)
    os.killpg(0, signal.SIGKILL)


class Unavailable(Exception):
    """The program does not answer; its process has ended."""


class Worker:
    """The parent's end of one child process. With `prepared`, it starts as `cm3leon` does (`runtime/platform.py`).

    The constructor returns when the child is ready, or when it is `unavailable`: for the reason given there it cannot
    run here, has died, or did not answer within `limit_seconds`.
    """

    def __init__(
        self,
        name: str,
        target: str,
        settings: dict[str, Any],
        environment: dict[str, str],
        *,
        prepared: bool = False,
        limit_seconds: float | None = None,
    ):
        self.name = name
        self.about: dict[str, Any] = {}
        self.unavailable: str | None = None
        self.limit_seconds = limit_seconds
        self._closed = False
        arguments = [target, json.dumps(settings)] + ["prepared"] * prepared
        self._process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"CM3LEON_COMPILATION_CACHE": "off"} | environment,  # compiling is timed too
            start_new_session=True,  # a process group of its own: compilers that it starts are in it, too
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()
        with contextlib.suppress(Unavailable):
            self.about = self._answer("not ready")
            self.unavailable = self.about.get("unavailable")

    def run(self, steps: int, *, expected_seconds: float = 0.0) -> dict[str, Any]:
        """What was measured. The limit begins after `expected_seconds`. Raises `Unavailable` where no answer comes."""
        if self.unavailable:
            raise Unavailable(self.unavailable)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the child is dead: it gives no answer
            print(json.dumps(steps), file=self._process.stdin, flush=True)
        return self._answer("no answer", expected_seconds)

    def close(self) -> None:
        """Ends the child and what it started. Its process group outlives it where one of these does."""
        if self._closed:
            return  # the number of its group may be another's by now
        self._closed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a driver that hangs keeps it
            self._process.wait(_ENDING_SECONDS)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _answer(self, missing: str, expected_seconds: float = 0.0) -> dict[str, Any]:
        limit = None if self.limit_seconds is None else self.limit_seconds + expected_seconds
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            self.unavailable = f"{missing} after {limit:g} s"
        else:
            if line.endswith("\n"):
                return json.loads(line)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING_SECONDS)
            self.unavailable = f"{missing}: ended with status {self._process.returncode}"
        self.close()
        raise Unavailable(self.unavailable)


def _read_lines(file: IO[str], lines: queue.Queue[str]) -> None:
    """Puts all lines, then one without an end."""
    with file:
        for line in file:
            lines.put(line)
    lines.put("")


if __name__ == "__main__":
    if sys.argv[3:] == ["prepared"]:
        from cm3leon_jax.runtime.platform import prepare_process

        prepare_process(sys.argv[1:], program=(sys.argv[0],))
    serve(sys.argv[1], json.loads(sys.argv[2]))
