"""A request to end, noted until a step has ended: SIGTERM, to any of a run's processes."""

from __future__ import annotations

import signal
import threading

from jax.experimental import multihost_utils

from cm3leon_jax.runtime import hosts


class Termination:
    """Notes SIGTERM instead of dying of it. Only the main thread can set handlers; elsewhere nothing is noted.

    With other processes JAX has noted it since they were joined, and finds a step that all of them stop at.
    """

    _noted = False

    def __enter__(self) -> Termination:
        self._handles = hosts.count() == 1 and threading.current_thread() is threading.main_thread()
        if self._handles:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handles:
            signal.signal(signal.SIGTERM, self._previous)

    def requested(self, step: int) -> bool:
        """Whether to stop behind this step. To be asked at every step."""
        return self._noted if hosts.count() == 1 else multihost_utils.reached_preemption_sync_point(step)

    def _note(self, *_: object) -> None:
        self._noted = True
