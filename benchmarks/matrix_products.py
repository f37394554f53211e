"""The machine's limit: large matrix products by XLA or by PyTorch, in a process of its own (`worker.py`)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any


class MatrixProducts:
    """FLOP/s of n×n products, all devices together: the best of a few. On a GPU in bfloat16 alone, and for as long as
    a training step takes: it is slower when it is warm."""

    def __init__(self, library: str, *, device: str):
        size, self._calls = (8192, 100) if device == "gpu" else (2048, 4)
        dtypes = ("bfloat16",) if device == "gpu" else ("float32", "bfloat16")
        self._flops = 2.0 * size**3
        make = xla_product if library == "xla" else torch_product
        self._products = {dtype: make(size, dtype, device) for dtype in dtypes}
        self.about: dict[str, Any] = {}

    def run(self, steps: int) -> dict[str, Any]:
        del steps
        return {dtype: max(self._rate(product) for _ in range(3)) for dtype, product in self._products.items()}

    def _rate(self, product: Callable[[int], None]) -> float:
        started = time.perf_counter()
        product(self._calls)
        return self._flops * self._calls / (time.perf_counter() - started)


def xla_product(size: int, dtype: str, device: str) -> Callable[[int], None]:
    """-> a function of how many products to run. The left operand's rows are split over the devices."""
    import jax
    import jax.numpy as jnp

    from cm3leon_jax.runtime.devices import batch_sharded, data_mesh, replicated

    if jax.default_backend() != device:
        raise ImportError(f"JAX's default backend here is {jax.default_backend()}, not {device}")
    mesh = data_mesh()
    left, right = jax.random.normal(jax.random.key(0), (2, size, size)).astype(dtype)
    left, right = jax.device_put(left, batch_sharded(mesh)), jax.device_put(right, replicated(mesh))
    # On a CPU the fast bfloat16 product is the one that keeps its float32 sums.
    accumulated = None if device == "gpu" else jnp.float32
    multiply = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=accumulated))
    multiply(left, right).block_until_ready()

    def run(calls: int) -> None:
        for _ in range(calls):
            result = multiply(left, right)
        result.block_until_ready()

    return run


def torch_product(size: int, dtype: str, device: str) -> Callable[[int], None]:
    """-> a function of how many products to run."""
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        raise ImportError("PyTorch sees no CUDA device")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    place = "cuda" if device == "gpu" else "cpu"
    left, right = torch.randn(2, size, size, device=place).to(getattr(torch, dtype))
    result = left @ right

    def run(calls: int) -> None:
        for _ in range(calls):
            torch.matmul(left, right, out=result)
        if device == "gpu":
            torch.cuda.synchronize()

    return run
