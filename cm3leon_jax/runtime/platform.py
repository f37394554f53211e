"""The process itself: settings that must stand before it starts (XLA's host devices, the allocator), and since when it
runs."""

from __future__ import annotations

import glob
import os
import sys
import time

from cm3leon_jax.runtime.compilation_cache import use_compilation_cache

# glibc told to keep XLA's temporaries mapped, in huge pages: a CPU training step is up to 35% faster. One arena for all
# threads, because what is too large for the arena of a thread is mapped anew each time, whatever the other settings.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}

_STARTED = "CM3LEON_STARTED"
_BEGAN = float(os.environ.get(_STARTED, time.time()))


def seconds_running() -> float:
    """Seconds since this process began, imports included."""
    return max(time.time() - _BEGAN, 0.0)


def seconds_waited() -> float:
    """Seconds since this process began, imports included, where it began with `prepare_process` and this is the first
    call; else 0."""
    started = os.environ.pop(_STARTED, None)
    return max(time.time() - float(started), 0.0) if started else 0.0


def has_accelerator() -> bool:
    """Whether JAX is to look for a GPU or TPU: `JAX_PLATFORMS` says so, or there is one."""
    named = os.environ.get("JAX_PLATFORMS", "")
    if named:
        return named != "cpu"
    return any(glob.glob(pattern) for pattern in ("/dev/nvidia[0-9]*", "/dev/accel[0-9]*", "/dev/vfio/[0-9]*"))


def prepare_process(argv: list[str], program: tuple[str, ...] = ("-m", "cm3leon_jax")) -> None:
    """Compiled programs are kept on disk; on a CPU host, one XLA device a core and the allocator's settings.

    The allocator reads its settings when the process starts, so the process replaces itself once (`os.execv`) by Python
    running `program` with the arguments `argv`, before anything heavy is imported. Raises `UserError` where the
    environment names a cache folder that cannot be.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault(_STARTED, str(time.time()))
    if os.environ.get("CM3LEON_PREPARED") == "1" or not sys.platform.startswith("linux"):
        return
    accelerator = has_accelerator()
    use_compilation_cache(accelerator=accelerator)
    if accelerator:
        return
    # Else JAX looks for a TPU where its library is installed, as for planning, and prints that there is none.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        cores = len(os.sched_getaffinity(0))
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={cores}".strip()
    for name, value in _ALLOCATOR.items():
        os.environ.setdefault(name, value)
    os.environ["CM3LEON_PREPARED"] = "1"
    os.execv(sys.executable, [sys.executable, *program, *argv])
