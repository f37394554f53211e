"""Progress bars for long work, on the terminal of process 0 alone."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import tqdm

from cm3leon_jax.runtime import hosts

WHOLE_VARIABLE = "CM3LEON_WHOLE_RUN"


class WholeRun(NamedTuple):
    """A run of several commands, in which this process is one. Its bars show the time that the whole run has left."""

    name: str
    began: float  # of this command, seconds since 1970
    seconds: float  # that this command was expected to take
    seconds_after: float  # that all later commands are expected to take

    def variable(self) -> dict[str, str]:
        """The environment that tells a command of it."""
        return {WHOLE_VARIABLE: json.dumps(self)}

    def seconds_left(self, own: float | None = None) -> float:
        """Of the whole run; `own` are those of this command, if they are known better than from its beginning."""
        if own is None:
            own = max(self.began + self.seconds - time.time(), 0.0)
        return own + self.seconds_after


def minutes(seconds: float) -> str:
    """A time for people: "12 min", below 90 seconds "80 s"."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


class _Bar(tqdm.tqdm):
    """A bar that also shows what is left of the whole run, where the command is a part of one."""

    def __init__(self, *arguments: Any, whole: WholeRun | None, all_work: bool, **options: Any):
        self._whole, self._all_work = whole, all_work
        super().__init__(*arguments, **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        values = super().format_dict
        if self._whole is not None:
            left = f"{self._whole.name}: {minutes(self._whole.seconds_left(self._seconds_left(values)))} left"
            values["postfix"] = ", ".join(filter(None, (values["postfix"], left)))
        return values

    def _seconds_left(self, values: dict[str, Any]) -> float | None:
        """Of the command, where the bar tells: not yet at its beginning, when what is compiled makes it seem slow."""
        done = values["n"] - values["initial"]
        if not self._all_work or not values["total"] or done < 0.1 * values["total"]:
            return None
        rate = values["rate"] or done / values["elapsed"]  # the latest one, else the mean
        return (values["total"] - values["n"]) / rate


def progress(
    items: Iterable | None = None,
    *,
    label: str,
    total: int | None = None,
    unit: str,
    start: int = 0,
    delay: float = 0.0,
    all_work: bool = False,
) -> Any:
    """A tqdm bar over `items` (or one to be updated by hand), not shown in its first `delay` seconds. In a log file it
    prints a line every ten seconds. `all_work`: the bar's end is about the end of the command."""
    interactive = sys.stderr.isatty()
    told = os.environ.get(WHOLE_VARIABLE)
    return _Bar(
        items,
        desc=label,
        total=total,
        unit=f" {unit}",
        initial=start,
        dynamic_ncols=interactive,
        ncols=None if interactive else 120,
        mininterval=0.2 if interactive else 10.0,
        leave=True,
        delay=delay,
        disable=not hosts.is_first(),
        whole=WholeRun(*json.loads(told)) if told else None,
        all_work=all_work,
    )
