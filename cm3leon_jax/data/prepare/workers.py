"""Work on Apache Beam: pieces that do not depend on each other, each of which leaves files behind.

Beam's own in-process runner is the default. It can be told to use several processes, and any other runner of Beam may
take its place (Dataflow, Flink, Spark), if all workers see the folder of the work.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import as_path, read_json, remove, write_json, written_aside
from cm3leon_jax.runtime.progress import progress

_ERRORS, _PROGRESS = "errors", "progress"
_SECONDS = 1.0  # between two looks at the progress
IN_PROCESS = "FnApiRunner"  # what `DirectRunner` was, before it began to look for another program to do its work


def beam_options(runner: str, options: Sequence[str]) -> Any:
    """A runner and its own flags -> Beam's options. Raises `UserError`."""
    beam = import_beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    runner = IN_PROCESS if runner in ("", "DirectRunner") else runner
    try:
        found = PipelineOptions([f"--runner={runner}", *options])
        found.get_all_options()
        beam.runners.create_runner(runner)
    except (SystemExit, ValueError, ImportError, AttributeError) as error:
        raise UserError(f"Beam cannot run on {runner!r} with {' '.join(options)} ({error}): see --runner") from None
    return found


def import_beam() -> Any:
    """Beam, without its remarks on what else could be installed."""
    logging.disable(logging.WARNING)
    try:
        import apache_beam
    finally:
        logging.disable(logging.NOTSET)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    return apache_beam


def for_each(
    job: Job,
    work: Callable[[Job, Any], None],
    items: Sequence[Any],
    options: Any,
    *,
    label: str,
    unit: str,
    total: int | None,
    done: int = 0,
) -> None:
    """Calls `work(job, item)` for each of `items`, on the workers of Beam; shows how far they are.

    `work` says how much it has done with `report`. Raises the `UserError` of the first that raised one.
    """
    if not items:
        return
    beam = import_beam()

    def build(pipeline: Any) -> None:
        _ = (
            pipeline
            | beam.Create(list(items))
            | beam.Reshuffle()
            | beam.Map(functools.partial(guarded, work, job, label))
        )

    run(job, build, options, label=label, unit=unit, total=total, done=done)


def run(
    job: Job,
    build: Callable[[Any], None],
    options: Any,
    *,
    label: str,
    unit: str,
    total: int | None,
    done: int = 0,
) -> None:
    """Runs the pipeline that `build` makes, to its end."""
    beam = import_beam()
    for folder in (_ERRORS, _PROGRESS):
        remove(job.path(folder))
    pipeline = beam.Pipeline(options=options)
    build(pipeline)
    with _shown(job, label=label, unit=unit, total=total, done=done):
        pipeline.run().wait_until_finish()
    for path in _listed(job, _ERRORS):
        raise UserError(read_json(path, what="error", make_with="cm3leon prepare"))


def guarded(work: Callable[[Job, Any], Any], job: Job, label: str, item: Any) -> Any:
    """`work(job, item)` on a worker: a `UserError` is written down for `run` to raise, and ends all that is to come.

    Beam would wrap it in pages of others.
    """
    if _listed(job, _ERRORS):
        return None
    _COUNT.begin(job, label)
    try:
        try:
            return work(job, item)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(f"no space left for {job.work}: free some and start again; what is done is kept") from error
    except UserError as error:
        write_json(job.path(_ERRORS, _SELF), str(error))
        return None
    finally:
        _COUNT.write()


_SELF = f"{socket.gethostname()}-{os.getpid()}"


class _Count:
    """What this process has done of one run, in a file for the progress bar."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._label, self._count, self._written = "", 0, 0.0

    def begin(self, job: Job, label: str) -> None:
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
                with written_aside(self._job.path(_PROGRESS, _SELF)) as aside:
                    aside.write_text(str(self._count))


_COUNT = _Count()
report = _COUNT.add  # what a worker calls with the number of examples or documents that it has done


def _listed(job: Job, folder: str) -> list[Any]:
    path = as_path(job.path(folder))
    return sorted(each for each in path.iterdir() if not each.name.startswith(".")) if path.exists() else []


@contextlib.contextmanager
def _shown(job: Job, *, label: str, unit: str, total: int | None, done: int) -> Iterator[None]:
    """A bar that follows what the workers report."""
    ended = threading.Event()
    with progress(label=label, total=total, unit=unit, start=done) as bar:

        def look() -> None:
            count = 0
            for path in _listed(job, _PROGRESS):
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
