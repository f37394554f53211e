"""Programs that are compared live in processes of their own, so that threads, allocators and environments of one do not
disturb another, and take turns: each waits on a pipe until it is told to run.

A message is one line of JSON. The child says first what it has prepared, or {"unavailable": reason}; then it answers
each request of so many steps with what it measured.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import subprocess
import sys
import traceback
from typing import Any, Protocol


class Program(Protocol):
    """What a child process measures."""

    about: dict[str, Any]  # said once

    def run(self, steps: int) -> dict[str, Any]:
        """Runs so many steps and says what was measured, `seconds` for all of them above all."""


def serve(target: str, settings: dict[str, Any]) -> None:
    """The child's life: `target`, "module:function", makes its program from `settings`."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print is no answer

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
    for request in sys.stdin:
        print(json.dumps(program.run(json.loads(request))), file=answers)


class Worker:
    """The parent's end of one child process. With `prepared`, it starts as `cm3leon` does (`runtime/platform.py`)."""

    def __init__(
        self, name: str, target: str, settings: dict[str, Any], environment: dict[str, str], *, prepared: bool = False
    ):
        self.name = name
        arguments = [target, json.dumps(settings)] + ["prepared"] * prepared
        self._process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"CM3LEON_COMPILATION_CACHE": "off"} | environment,  # compiling is timed too
        )
        self.about = self._answer()

    @property
    def unavailable(self) -> str | None:
        """Why the program cannot run here."""
        return self.about.get("unavailable")

    def run(self, steps: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(steps), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Ends the child: no more requests come."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self._process.wait()}")
        return json.loads(line)


if __name__ == "__main__":
    if sys.argv[3:] == ["prepared"]:
        from cm3leon_jax.runtime.platform import prepare_process

        prepare_process(sys.argv[1:], program=(sys.argv[0],))
    serve(sys.argv[1], json.loads(sys.argv[2]))
