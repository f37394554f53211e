"""How far the workers are: each process keeps a count in a file, and the progress bar adds them up.

So it works wherever the workers see the folder of the work, whatever runs them.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator

from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.runtime.files import remove, written_aside
from cm3leon_jax.runtime.progress import progress

_FOLDER = "progress"
_SECONDS = 1.0  # between two looks
SELF = f"{socket.gethostname()}-{os.getpid()}"


class _Count:
    """What this process has done of one run, in a file for the progress bar."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._label, self._count, self._written = "", 0, 0.0

    def reset(self) -> None:
        with self._lock:
            self._job, self._label, self._count = None, "", 0

    def begin(self, job: Job, label: str) -> None:
        """Counts from 0 where this is another run than the one before."""
        with self._lock:
            if (self._job and self._job.inputs, self._label) != (job.inputs, label):
                self._job, self._label, self._count = job, label, 0

    def add(self, count: int) -> None:
        with self._lock:
            self._count += count
        if time.monotonic() - self._written > _SECONDS:
            self.write()

    def write(self) -> None:
        with self._lock:
            self._written = time.monotonic()
            if self._job:
                with written_aside(self._job.path(_FOLDER, SELF)) as aside:
                    aside.write_text(str(self._count))


COUNT = _Count()
report = COUNT.add  # what a worker calls with the number of examples or documents that it has done


def clear(job: Job) -> None:
    """Forgets the counts of a run before."""
    COUNT.reset()
    remove(job.path(_FOLDER))


def listed(folder: pathlib.Path) -> list[pathlib.Path]:
    """The whole files of a folder; none where there is no folder."""
    return sorted(each for each in folder.iterdir() if not each.name.startswith(".")) if folder.exists() else []


@contextlib.contextmanager
def shown(job: Job, *, label: str, unit: str, total: int | None, done: int) -> Iterator[None]:
    """A bar that follows what the workers report."""
    ended = threading.Event()
    with progress(label=label, total=total, unit=unit, start=done) as bar:

        def look() -> None:
            count = 0
            for path in listed(job.path(_FOLDER)):
                with contextlib.suppress(OSError, ValueError):
                    count += int(path.read_text())
            bar.update(done + count - bar.n)

        def follow() -> None:
            while not ended.wait(_SECONDS):
                look()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
            ended.set()
            thread.join()
            if total is not None:
                bar.update(total - bar.n)
        finally:
            ended.set()
