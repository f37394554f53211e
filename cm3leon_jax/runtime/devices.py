"""Data parallelism for the small models (image tokenizer, retriever): one mesh axis over all devices.

The decoder has a mesh of its own with more axes (`model/partitioning.py`).
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def data_mesh() -> Mesh:
    """All devices of all processes along one axis, `data`. One device is a mesh too."""
    return Mesh(np.asarray(jax.devices()), ("data",), axis_types=(AxisType.Auto,))


def local_mesh() -> Mesh:
    """The devices of this process alone: for work that process 0 does while the others wait."""
    return Mesh(np.asarray(jax.local_devices()), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """Splits the first axis, which must be a multiple of the number of devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: Any, sharding: NamedSharding) -> Any:
    """Host arrays [rows, …] -> global arrays of that sharding. Each process passes its own rows."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)


def map_batches(function: Any, *arrays: np.ndarray, batch_size: int, mesh: Mesh) -> np.ndarray:
    """Runs a compiled `function` over rows of host arrays [N, …] in fixed-size batches -> numpy [N, …].

    The last batch is padded by repeating its last row, so that one shape is compiled.
    """
    count = len(arrays[0])
    batch_size = -(-batch_size // mesh.size) * mesh.size
    outputs = []
    for start in range(0, count, batch_size):
        rows = [array[start : start + batch_size] for array in arrays]
        short = batch_size - len(rows[0])
        if short:
            rows = [np.concatenate([row, np.repeat(row[-1:], short, axis=0)]) for row in rows]
        output = np.asarray(function(*(put_batch(row, batch_sharded(mesh)) for row in rows)))
        outputs.append(output[: batch_size - short])
    return np.concatenate(outputs)
