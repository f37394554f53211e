"""A profile of some steps of a run, for TensorBoard or Perfetto."""

from __future__ import annotations

import os
import re
from typing import Any

import jax

from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path


class Profile:
    """A `jax.profiler` trace of the steps `first:last`, both included, of process 0, into `directory`/profile. Without
    such steps nothing happens."""

    def __init__(self, steps: str, directory: Path):
        match = re.fullmatch(r"(\d+):(\d+)", steps)
        if steps and not (match and 0 < int(match[1]) <= int(match[2])):
            raise UserError(f"profile_steps is {steps!r}; write FIRST:LAST, such as 10:15")
        chosen = match is not None and hosts.is_first()
        self._steps = range(int(match[1]), int(match[2]) + 1) if match and chosen else range(0)
        self._directory = os.fspath(as_path(directory) / "profile")
        self._running = False

    def before(self, step: int, state: Any) -> None:
        if step in self._steps and not self._running:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._directory)
            self._running = True

    def after(self, step: int, metrics: Any) -> None:
        if self._running and step == self._steps[-1]:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
