"""The speed of memory: large float32 arrays added up by XLA, in a process of its own (`worker.py`)."""

from __future__ import annotations

import time
from typing import Any


class Bandwidth:
    def __init__(self, *, device: str, mebibytes: int = 1024):
        import jax
        import jax.numpy as jnp

        if jax.default_backend() != device:
            raise ImportError(f"JAX's default backend here is {jax.default_backend()}, not {device}")
        devices = jax.device_count()
        mesh = jax.make_mesh((devices,), ("all",), axis_types=(jax.sharding.AxisType.Auto,))
        split = jax.NamedSharding(mesh, jax.P("all"))
        self._array = jax.device_put(jnp.ones((devices, mebibytes * 2**18 // devices), jnp.float32), split)
        self._sum = jax.jit(lambda x: x.sum(axis=1))
        self._bytes = self._array.nbytes
        self._jax = jax
        self.run(1)
        self.about: dict[str, Any] = {"bytes": self._bytes}

    def run(self, steps: int) -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(steps):
            self._jax.block_until_ready(self._sum(self._array))
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "bytes_per_second": steps * self._bytes / seconds}
