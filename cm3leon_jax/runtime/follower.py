"""What becomes of the steps that were given to the devices."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax

from cm3leon_jax.runtime.goodput import Goodput
from cm3leon_jax.runtime.plateau import Plateau
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.runtime.skipped import SkippedSteps
from cm3leon_jax.runtime.watchdog import Watchdog


class Step(NamedTuple):
    """A step that was given to the devices, and may not be done."""

    number: int
    position: dict | None  # that of its batch
    metrics: Mapping[str, jax.Array]
    waited: float  # seconds, for the batch
    usual: bool  # it says how long steps take: no compilation, and nothing else was waited for


class Follower:
    """Waits for each step one step late, so that the devices always have the next one: takes its time, looks whether it
    was skipped, and follows the loss where plateaus are looked for."""

    def __init__(
        self, config: LoopConfig, *, watchdog: Watchdog, goodput: Goodput, skipped: SkippedSteps, plateau: Plateau
    ):
        self._config, self._watchdog, self._goodput = config, watchdog, goodput
        self._skipped, self._plateau = skipped, plateau
        self._running: collections.deque[Step] = collections.deque()
        self._since: float | None = None  # when the step before was done

    def add(self, step: Step, *, ahead: int) -> None:
        """A step has begun. Returns when no more than `ahead` are not done."""
        if not step.usual:
            self._since = None
        self._running.append(step)
        self.catch_up(ahead)

    def catch_up(self, ahead: int = 0) -> None:
        while len(self._running) > ahead:
            step = self._running.popleft()
            jax.block_until_ready(step.metrics)
            now = time.perf_counter()
            if self._since is not None:
                self._watchdog.took(now - self._since)
                self._goodput.stepped(now - self._since - step.waited)
            self._goodput.waited(step.waited)
            self._since = now
            self._look_at(step)

    def _look_at(self, step: Step) -> None:
        was_skipped = "finite" in step.metrics and not float(step.metrics["finite"])
        if self._config.plateau_steps:
            loss = math.nan if was_skipped else float(step.metrics["loss"])
            self._plateau.add(step.number, loss, self._config)
        if was_skipped:
            metrics = {name: float(value) for name, value in jax.device_get(step.metrics).items()}
            self._skipped.note(step.number, step.position, metrics)
        else:
            self._skipped.good()
