"""The hardware that a run is meant for, as its gin file names it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class HardwareConfig:
    """Which devices, and how programs are compiled for them. `cm3leon plan` compiles with the very same options."""

    slice: str = ""  # a TPU slice ("v5p-256", "2xv5e-256"); empty: whatever devices are there
    compiler_options: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of XLA; only TPUs are told
