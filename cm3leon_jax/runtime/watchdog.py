"""A thread that ends the run where something takes far longer than it should: a pod must not hang in silence."""

from __future__ import annotations

import collections
import faulthandler
import statistics
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import EXIT_START_AGAIN
from cm3leon_jax.runtime.files import Path, as_path, written_aside
from cm3leon_jax.runtime.settings import LoopConfig

_REMEMBERED = 101  # steps whose median is what a step should take
_WRITING_SECONDS = 10.0  # for the file with the stacks


class Watchdog:
    """Use as a context manager. The loop says what comes next and gets a deadline for it; where one passes, all stacks
    go to stderr and to `directory`/stacks_N.txt, and all processes end with status 42."""

    def __init__(
        self, config: LoopConfig, directory: Path, *, end: Callable[[int, str], object] = hosts.end_all
    ) -> None:
        self._config, self._directory, self._end = config, directory, end
        self._durations: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._deadline = (float("inf"), "", 0.0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")

    def __enter__(self) -> Watchdog:
        if self._config.watchdog_multiple:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def expect(self, what: str, *, long: bool = False) -> None:
        """Something begins. `long`: compilation, evaluation, saving, which have an allowance of their own."""
        allowance = self._config.watchdog_long_seconds if long else self.step_allowance()
        self._deadline = (time.monotonic() + allowance, what, allowance)

    def took(self, seconds: float) -> None:
        """Notes how long a step took."""
        self._durations.append(seconds)

    def step_allowance(self) -> float:
        """Seconds that the next step may take."""
        if not self._durations:
            return self._config.watchdog_long_seconds
        usual = statistics.median(self._durations)
        return max(self._config.watchdog_floor_seconds, self._config.watchdog_multiple * usual)

    def _watch(self) -> None:
        while not self._stopped.wait(0.2):
            deadline, what, allowance = self._deadline
            if time.monotonic() > deadline and not self._stopped.is_set():
                self._dump()
                late = f"{hosts.name()}: {what} took more than {allowance:.0f} s; stopped by the watchdog"
                self._end(EXIT_START_AGAIN, late)
                return

    def _dump(self) -> None:
        print(f"cm3leon: the stacks of {hosts.name()}, which hangs:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        # What hangs may be the very file system, so nothing waits for it.
        writing = threading.Thread(target=self._write, daemon=True, name="stacks")
        writing.start()
        writing.join(_WRITING_SECONDS)

    def _write(self) -> None:
        try:
            path = as_path(self._directory) / f"stacks_{hosts.index()}.txt"
            with written_aside(path) as aside, open(aside, "w", encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)
        except Exception as error:  # object stores have errors of their own
            print(f"cm3leon: the stacks could not be written ({error})", file=sys.stderr)
