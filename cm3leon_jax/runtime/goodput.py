"""Where a run's time goes: the share of it that was spent in training steps (goodput), and in waiting for input."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cm3leon_jax.runtime.platform import seconds_running


class Goodput:
    """Counts from the start of the process, imports and compilation included. A run that was started before goes on
    from `rows`, the metrics logged so far."""

    def __init__(self, rows: Sequence[dict], *, running: Callable[[], float] = seconds_running) -> None:
        counted = [row for row in rows if "train/seconds" in row]
        self._before = counted[-1]["train/seconds"] if counted else 0.0
        self._running = running
        self._productive, self._waited, self._since = 0.0, 0.0, time.perf_counter()

    def resumed(self, rows: Sequence[dict], step: int) -> None:
        """The run goes on behind `step`: later steps, which were lost, took time and made nothing."""
        kept = [row for row in rows if "train/seconds" in row and row["step"] <= step]
        self._productive = kept[-1]["train/goodput"] * kept[-1]["train/seconds"] if kept else 0.0

    def waited(self, seconds: float) -> None:
        """The loop waited for a batch."""
        self._waited += seconds

    def stepped(self, seconds: float) -> None:
        """A step took so long, waiting for its batch not counted."""
        self._productive += max(seconds, 0.0)

    def values(self) -> dict[str, float]:
        """Metrics: `seconds` of all starts of this run together, `goodput`, and `input_wait`, the share of the time
        since the last call."""
        now = time.perf_counter()
        share = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        seconds = self._before + self._running()
        return {"seconds": seconds, "goodput": min(self._productive / max(seconds, 1e-9), 1.0), "input_wait": share}
