"""Work on Apache Beam: pieces that do not depend on each other, each of which leaves files behind.

Beam's own in-process runner is the default. It can be told to use several processes, and any other runner of Beam may
take its place (Dataflow, Flink, Spark), if all workers see the folder of the work.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cm3leon_jax.data.prepare.counting import COUNT, SELF, clear, listed, shown
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import read_json, remove, write_json

_ERRORS = "errors"
LOG_FILE = "workers.log"
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

    `work` says how much it has done with `counting.report`. Raises the `UserError` of the first that raised one.
    """
    if not items:
        return
    beam = import_beam()
    remove(job.path(_ERRORS))
    clear(job)
    with _runner(job, options) as runner, shown(job, label=label, unit=unit, total=total, done=done):
        pipeline = beam.Pipeline(runner=runner, options=options)
        _ = (
            pipeline
            | beam.Create(list(items))
            | beam.Reshuffle()
            | beam.Map(functools.partial(_guarded, work, job, label))
        )
        pipeline.run().wait_until_finish()
    for path in listed(job.path(_ERRORS)):
        raise UserError(read_json(path, what="error", make_with="cm3leon prepare"))


@contextlib.contextmanager
def _runner(job: Job, options: Any) -> Iterator[Any]:
    """The runner that the options name (None). In its place, where it is Beam's own with several processes, one whose
    processes write what they have to say to `workers.log` beside the work, and not to the terminal, page after page."""
    from apache_beam.options.pipeline_options import DirectOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    direct, mode = options.view_as(DirectOptions), "multi_processing"
    if direct.direct_running_mode != mode or options.view_as(StandardOptions).runner != IN_PROCESS:
        yield None
        return
    python, log = shlex.quote(sys.executable), shlex.quote(str(job.path(LOG_FILE)))
    command = f"{python} -m apache_beam.runners.worker.sdk_worker_main 2>> {log}"
    direct.direct_running_mode = None  # else it would set a command of its own
    try:
        yield FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))
    finally:
        direct.direct_running_mode = mode


def _guarded(work: Callable[[Job, Any], None], job: Job, label: str, item: Any) -> None:
    """`work(job, item)` on a worker. A `UserError` is written down for `for_each` to raise, and ends what is to come:
    Beam would wrap it in pages of others.
    """
    if listed(job.path(_ERRORS)):
        return
    COUNT.begin(job, label)
    try:
        try:
            work(job, item)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(f"no space left for {job.work}: free some and start again; what is done is kept") from error
    except UserError as error:
        write_json(job.path(_ERRORS, SELF), str(error))
    finally:
        COUNT.write()
