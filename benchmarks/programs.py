"""The programs that `train_step.py` compares: their names, and how each is started."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import subprocess
from typing import Any

from case import Case
from worker import Worker

from cm3leon_jax.runtime.processor import processor


@dataclasses.dataclass(frozen=True)
class Program:
    """`target` is made by a worker from `settings`, in this environment."""

    target: str
    settings: dict[str, Any]
    environment: dict[str, str]
    prepared: bool = False

    def start(self, name: str, limit_seconds: float) -> Worker:
        return Worker(
            name, self.target, self.settings, self.environment, prepared=self.prepared, limit_seconds=limit_seconds
        )


def our_programs(case: Case, device: str, attention: str, profile: str) -> dict[str, Program]:
    """Our step in each dtype; "packed" with three examples a row, as in training, where the peer has one."""
    kinds = {"ours_bfloat16": ("bfloat16", False), "ours_bfloat16_packed": ("bfloat16", True)}
    if device == "cpu":
        kinds["ours_float32"] = ("float32", False)
    found = {}
    for name, (dtype, packed) in kinds.items():
        settings = {"sizes": dataclasses.asdict(case), "dtype": dtype, "packed": packed, "device": device}
        settings |= {"attention": attention, "profile": profile and f"{profile}/{name}"}
        found[name] = Program("step_ours:OurStep", settings, jax_environment(device), prepared=True)
    return found


def peer_programs(case: Case, device: str, scratch: pathlib.Path) -> dict[str, Program]:
    """PyTorch as it comes in float32, and with MKL at the processor's full width; two ways of bfloat16; each eager and
    compiled."""
    full_width = _full_width_products(scratch)
    kinds = [("autocast", "autocast", full_width), ("master", "master", full_width)]
    if device == "cpu":
        kinds.insert(0, ("float32", "float32", {}))
        if full_width:
            kinds.insert(1, ("float32_avx512", "float32", full_width))
    return {
        f"torch_{name}_{'compiled' if compiled else 'eager'}": Program(
            "step_torch:TorchStep",
            {"sizes": dataclasses.asdict(case), "precision": precision, "compiled": compiled, "device": device},
            environment,
        )
        for name, precision, environment in kinds
        for compiled in (False, True)
    }


def limit_programs(device: str, scratch: pathlib.Path) -> dict[str, Program]:
    """Large matrix products by either library."""
    target = "matrix_products:MatrixProducts"
    by_xla = {"library": "xla", "device": device}
    by_torch = {"library": "torch", "device": device}
    return {
        "limit_xla": Program(target, by_xla, jax_environment(device), prepared=True),
        "limit_torch": Program(target, by_torch, _full_width_products(scratch)),
    }


def jax_environment(device: str) -> dict[str, str]:
    return {"JAX_PLATFORMS": "cpu"} if device == "cpu" else {}


def _full_width_products(scratch: pathlib.Path) -> dict[str, str]:
    """On AMD processors with AVX-512, the environment that makes MKL use it; else {}.

    MKL asks a function of its own whether the processor is Intel's. A library that answers yes is loaded before it.
    """
    found = processor()
    compiler = shutil.which("cc") or shutil.which("gcc")
    if found.vendor != "AuthenticAMD" or "avx512f" not in found.flags or compiler is None:
        return {}
    source, library = scratch / "full_width.c", scratch / "full_width.so"
    if not library.exists():
        source.write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return {"LD_PRELOAD": str(library)}
