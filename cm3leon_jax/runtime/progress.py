"""Progress bars for long work, on the terminal of process 0 alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import tqdm

from cm3leon_jax.runtime import hosts


def progress(
    items: Iterable | None = None,
    *,
    label: str,
    total: int | None = None,
    unit: str,
    start: int = 0,
    delay: float = 0.0,
) -> Any:
    """A tqdm bar over `items` (or one to be updated by hand), not shown in its first `delay` seconds. In a log file it
    prints a line every ten seconds."""
    interactive = sys.stderr.isatty()
    return tqdm.tqdm(
        items,
        desc=label,
        total=total,
        unit=f" {unit}",
        initial=start,
        dynamic_ncols=interactive,
        ncols=None if interactive else 100,
        mininterval=0.2 if interactive else 10.0,
        leave=True,
        delay=delay,
        disable=not hosts.is_first(),
    )
