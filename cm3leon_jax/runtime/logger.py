"""What a run says while it trains: metrics to its writers, and one line on the terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import jax

from cm3leon_jax.runtime.files import Path
from cm3leon_jax.runtime.goodput import Goodput
from cm3leon_jax.runtime.metrics import Writer
from cm3leon_jax.runtime.progress import progress

# (metrics of a step, steps a second) -> metrics of speed
Rates = Callable[[Mapping[str, float], float], Mapping[str, float]]


class Logger:
    """Writes metrics and pictures of a run that goes on behind step `start`; speeds are those between two calls.

    Closes the writer with itself.
    """

    def __init__(self, writer: Writer, *, label: str, start: int, end: int, goodput: Goodput, rates: Rates | None):
        self._writer, self._goodput, self._rates = writer, goodput, rates
        self._bar = progress(label=label, total=end, unit="steps", start=start, all_work=True)
        self._step, self._time = start, time.perf_counter()

    def trained(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """A training step is done."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if values.pop("finite", 0.0):  # a mean over nothing
            values = {name: value for name, value in values.items() if not math.isnan(value)}
        speed = (step - self._step) / (time.perf_counter() - self._time)
        values |= {"steps_per_second": speed, **(self._rates(values, speed) if self._rates is not None else {})}
        values |= self._goodput.values()
        self._writer.write(step, {f"train/{name}": value for name, value in values.items()})
        self._bar.set_postfix_str(_status(values), refresh=False)
        self._bar.update(step - self._bar.n)
        self._began(step)

    def evaluated(self, step: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Held-out metrics, and pictures drawn at a step. The time that they took is nobody's speed."""
        for name, picture in pictures.items():
            self._writer.picture(step, name, picture)
        if values:
            self._writer.write(step, {f"eval/{name}": value for name, value in values.items()})
        self._began(step)

    def close(self) -> None:
        self._bar.close()
        self._writer.close()

    def _began(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()


def _status(values: Mapping[str, float]) -> str:
    """The line beside the progress bar."""
    parts = [f"loss {values.get('loss', float('nan')):.4f}"]
    if "tokens_per_second" in values:
        parts.append(f"{values['tokens_per_second']:,.0f} tokens/s")
    if "mfu" in values:
        parts.append(f"MFU {values['mfu']:.0%}")
    return ", ".join([*parts, f"goodput {values['goodput']:.0%}"])
