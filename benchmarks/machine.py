"""What is recorded of the machine beside each measurement."""

from __future__ import annotations

import os
from typing import Any

from cm3leon_jax.runtime.processor import processor

# Vectors, matrix tiles, and the numbers that they are made of; on Arm "asimd" and "sve" are the vectors.
_ARITHMETIC = ("avx", "amx", "fma", "f16c", "asimd", "sve", "bf16", "i8mm")


def describe_machine() -> dict[str, Any]:
    """The processor, those of its flags that decide how fast it multiplies, and the cores that programs run on."""
    found = processor()
    return {
        "processor": found.model,
        "flags": [flag for flag in found.flags if flag.startswith(_ARITHMETIC)],
        "native_bfloat16": found.native_bfloat16,
        "cores": len(os.sched_getaffinity(0)),
    }
