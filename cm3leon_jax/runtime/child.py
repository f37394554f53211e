"""One process after another, as a run of several commands starts them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from cm3leon_jax.runtime.errors import EXIT_FINISHED, EXIT_START_AGAIN, EXIT_USER_ERROR, StartAgain, UserError


def run_child(command: Sequence[str], what: str, environment: Mapping[str, str] | None = None) -> None:
    """Runs a process of ours to its end, with more variables in its `environment`. `what` names it in errors:
    `UserError` where it said what was wrong, `StartAgain` where it was interrupted, `SystemExit` with its status
    otherwise."""
    status = _status(command, environment or {})
    if status == EXIT_USER_ERROR:
        raise UserError(f"{what} could not go on (see above)")
    if status == EXIT_START_AGAIN or status < 0:  # negative: a signal ended it
        raise StartAgain(f"{what} was interrupted; the same command continues from there")
    if status != EXIT_FINISHED:
        raise SystemExit(status)


def _status(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a process to its end. What asks this one to end asks it too: no process is left behind, and it may save."""
    process = subprocess.Popen(command, env=os.environ | environment)
    before = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()  # the terminal has told it already; `kill -INT` has not
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
