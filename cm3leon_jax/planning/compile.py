"""Compiles programs for a TPU slice that is not there, and reads back what they need and do."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cm3leon_jax.model.partitioning import Partitioning, make_mesh
from cm3leon_jax.planning.chips import GIB, Slice
from cm3leon_jax.planning.hlo import parse_program
from cm3leon_jax.planning.run import PlannedRun
from cm3leon_jax.planning.schedule import Cost, program_cost
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.training.optimizer import make_optimizer
from cm3leon_jax.training.step import accumulated_parts, make_state, make_train_step, state_shardings
from cm3leon_jax.vocabulary import CM3LEON


class DoesNotFit(Exception):
    """The program needs more memory than a chip has. `needed` and `capacity`: bytes, by the compiler's count."""

    def __init__(self, needed: int, capacity: int):
        super().__init__(f"needs {needed / GIB:.2f} GiB a chip of {capacity / GIB:.2f} GiB")
        self.needed, self.capacity = needed, capacity


@dataclasses.dataclass(frozen=True)
class CompiledProgram:
    """What was read from a compiled program. Bytes and seconds of one chip."""

    cost: Cost
    argument_bytes: int
    temporary_bytes: int
    peak_bytes: int
    seconds: float  # of compiling


def slice_devices(slice_: Slice) -> list[Any]:
    """The devices of a slice that is not there. UserError without libtpu."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "planning needs the TPU's compiler: pip install 'cm3leon_jax[tpu]' (any x86 Linux host will do)"
        )
    # Nothing is asked of a TPU's metadata server, and another process may have the library loaded as well.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    from jax.experimental import topologies

    options = dict(slice_.chip.topology_options)
    if len(slice_.shape) == 3:
        options["wrap"] = slice_.rings
    if slice_.slices > 1:
        options["num_slices"] = slice_.slices
    name = f"{slice_.generation}:{'x'.join(map(str, slice_.shape))}"
    with _quiet_stderr():
        description = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    return list(description.devices)


def compiler_versions() -> dict[str, str]:
    """The installed versions of the packages that compile, by name. A nightly libtpu has another name: left out."""
    versions = {}
    for package in ("jax", "libtpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def compile_training_step(run: PlannedRun, slice_: Slice) -> CompiledProgram:
    """Compiles the very step that training runs. DoesNotFit: too little memory. UserError: what cannot be split so."""
    partitioning = Partitioning(make_mesh(run.mesh, slice_devices(slice_)), run.rules)
    accumulated_parts(run.batch_size, partitioning.batch_shards, run.step)  # a UserError where the rows do not divide
    steps = 2  # the schedule's constants do not change the program
    optimizer = make_optimizer(run.optimizer, steps, partitioning)
    step = make_train_step(
        run.model,
        CM3LEON,
        run.optimizer,
        steps,
        partitioning,
        run.step,
        compiler_options=dict(run.compiler_options),
        retrieved_max=run.retrieved_max,
    )
    abstract = jax.eval_shape(functools.partial(make_state, config=run.model, optimizer=optimizer), jax.random.key(0))
    shardings = state_shardings(run.model, optimizer, partitioning)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings)
    rows = partitioning.sharding("batch")
    shape = (run.batch_size, run.length)
    names = ["tokens", "targets", "positions", "segments", "weights"]
    names += [] if run.retrieved_max is None else ["retrieved"]
    batch = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32 if name == "weights" else jnp.int32, sharding=rows)
        for name in names
    }
    return read_program(step.lower(state, batch), partitioning, slice_)


def read_program(
    lowered: Any,
    partitioning: Partitioning,
    slice_: Slice,
    *,
    trips: int | None = None,
    compiler_options: tuple[tuple[str, str], ...] = (),
) -> CompiledProgram:
    """Compiles a lowered program and walks through its text; `trips` as in `program_cost`."""
    started = time.perf_counter()
    try:
        with _quiet_stderr():
            compiled = lowered.compile(compiler_options=dict(compiler_options))
    except jax.errors.JaxRuntimeError as error:
        raise memory_error(str(error)) or error from None
    seconds = time.perf_counter() - started
    memory = compiled.memory_analysis()
    return CompiledProgram(
        cost=program_cost(parse_program(compiled.as_text()), slice_, _coordinates(partitioning, slice_), trips),
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        peak_bytes=memory.peak_memory_in_bytes,
        seconds=seconds,
    )


def _coordinates(partitioning: Partitioning, slice_: Slice) -> np.ndarray:
    """Of each partition of a program: its chip's coordinates in its slice, then its slice."""
    assert partitioning.mesh is not None
    axes = len(slice_.shape)
    return np.array(
        [
            [*device.coords[:axes], getattr(device, "slice_index", None) or 0]
            for device in partitioning.mesh.devices.reshape(-1)
        ]
    )


def memory_error(message: str) -> DoesNotFit | None:
    """The compiler's complaint that memory is short, read."""
    found = re.search(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm", message) or re.search(
        r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)", message
    )
    if found is None:
        return None
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    return DoesNotFit(int(float(found[1]) * units[found[2]]), int(float(found[3]) * units[found[4]]))


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """libtpu writes warnings about the TPU that is not there, past Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
