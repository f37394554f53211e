"""Starts several processes of one program as one run, and says how they ended."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from cm3leon_jax.runtime.metrics import read_metrics

# Importing JAX is most of a start: compiled once, and not once a process.
_BYTECODE = tempfile.TemporaryDirectory(prefix="bytecode")
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("CM3LEON_")} | {
    "CM3LEON_PREPARED": "1",
    "JAX_PLATFORMS": "cpu",
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": _BYTECODE.name,
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}


class Ended(NamedTuple):
    status: int
    errors: str


class Run:
    """`count` processes of `program`, which takes its `arguments` as JSON; with `count` 1, one that joins nobody.
    `settings` override environment variables."""

    def __init__(self, program: pathlib.Path, count: int, *, settings: dict[str, str] | None = None, **arguments):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.processes = []
        for index in range(count):
            joining = {
                "CM3LEON_COORDINATOR": f"localhost:{port}",
                "CM3LEON_PROCESS_COUNT": str(count),
                "CM3LEON_PROCESS_INDEX": str(index),
                "CM3LEON_HEARTBEAT_SECONDS": "10",
            }
            environment = _ENVIRONMENT | (joining if count > 1 else {}) | (settings or {})
            command = [sys.executable, str(program), json.dumps(arguments)]
            self.processes.append(
                subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
            )

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def wait(self, *which: int, seconds: float = 300) -> list[Ended]:
        """How these processes (all unless told) ended; `seconds` later they hang."""
        deadline = time.monotonic() + seconds
        ended = []
        for process in [self.processes[index] for index in which] or self.processes:
            _, errors = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
            ended.append(Ended(process.returncode, errors))
        return ended

    def wait_for_steps(self, directory, count: int, seconds: float = 300) -> None:
        """Until so many steps are logged."""
        deadline = time.monotonic() + seconds
        while len(logged(directory)) < count:
            if any(process.poll() is not None for process in self.processes) or time.monotonic() > deadline:
                for process in self.processes:
                    process.kill()
                raise AssertionError([process.communicate()[1][-2000:] for process in self.processes])
            time.sleep(0.05)


def logged(directory) -> list[dict]:
    return read_metrics(pathlib.Path(directory) / "training")
