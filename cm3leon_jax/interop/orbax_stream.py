"""An Orbax checkpoint from tensors that lie in other files, and back: a piece of one tensor at a time is in memory.

Orbax takes arrays that are in memory as a whole, and keeps their compressed bytes there until a file is full. It also
takes values of types that others write (`TypeHandler`). A checkpoint's arrays are Zarr arrays in an OCDBT store, and
TensorStore, through which Orbax writes them, also writes them piece by piece.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.model_folder import flatten, unflatten
from cm3leon_jax.runtime.tensor_files import AGAIN
from cm3leon_jax.runtime.tensor_stream import PIECE_BYTES, NewTensor, StoredTensor

CHUNK_BYTES = 2**22  # what a reader of any part has to decode
_PROCESS_FOLDER = "ocdbt.process_0"  # each process writes a store of its own, and Orbax merges them at the end
_STORE_FILE = "manifest.ocdbt"


@dataclasses.dataclass(frozen=True)
class Cast:
    """A leaf to be saved: a tensor in a file, in another type."""

    stored: StoredTensor
    dtype: np.dtype


class CastHandler(ocp.type_handlers.NumpyHandler):
    """Saves a `Cast` as what Orbax makes of a numpy array. One process writes."""

    async def serialize(self, values: Sequence[Cast], infos: Sequence[Any], args: Any = None) -> list:
        for value, info in zip(values, infos, strict=True):
            chunk = chunk_shape(value.stored.shape, value.dtype)
            store = await ts.open(_new_array(value, chunk, info), create=True, context=info.ts_context)
            for start, stop in _steps(value.stored.shape, value.dtype, chunk[0]):
                piece = value.stored.rows(start, stop).astype(value.dtype, copy=False)
                # A write ends when its bytes are in a file; begun sooner, the next would be in memory beside it.
                await store[start:stop].write(piece, can_reference_source_data_indefinitely=True)
                del piece  # before the next is read
        return []


def save_stream(directory: pathlib.Path, tensors: dict[str, StoredTensor], dtype: np.dtype) -> None:
    """Writes a new checkpoint, whole or not at all: a nested dict of arrays, of tensors by their paths "a/b".

    Any Orbax reads it. In memory is a row of a tensor's first axis, or some MiB of rows.
    """
    handlers = ((Cast, CastHandler()), (jax.Array, ocp.type_handlers.ArrayHandler()))  # it warns without the second
    registry = ocp.type_handlers.create_type_handler_registry(*handlers)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(type_handler_registry=registry)) as checkpointer:
        leaves = {name: Cast(tensor, dtype) for name, tensor in tensors.items()}
        checkpointer.save(directory.absolute(), unflatten(leaves))


def open_stream(directory: pathlib.Path) -> dict[str, NewTensor]:
    """The arrays of a checkpoint that any Orbax wrote, by their paths "a/b", to be read as float32.

    Chunks are read whole: an array saved as one chunk is in memory as a whole while it is read. Raises Orbax's
    `ValueError`, `FileNotFoundError` or `AttributeError` where there is no such checkpoint; `pieces` a `UserError`.
    """
    directory = directory.absolute()
    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.metadata(directory).item_metadata.tree
    return {
        path: NewTensor(leaf.shape, np.dtype(np.float32), functools.partial(_pieces, directory, leaf.name))
        for path, leaf in flatten(saved).items()
    }


def chunk_shape(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    """Whole last axes, of the one before them a power of two, so that a mesh cuts between chunks, and 1 of the first.

    At most `CHUNK_BYTES`, which are contiguous.
    """
    left = CHUNK_BYTES // dtype.itemsize
    chunk: list[int] = []
    for size in reversed(shape):
        chunk.insert(0, size if size <= left else 1 << max(0, left.bit_length() - 1))
        left //= max(1, size)
    return tuple(chunk)


def _steps(shape: tuple[int, ...], dtype: np.dtype, chunk: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of rows of the first axis: whole chunks, a few MiB of them, at least one."""
    row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
    step = chunk * max(1, PIECE_BYTES // max(1, chunk * row_bytes))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def _new_array(value: Cast, chunk: tuple[int, ...], info: Any) -> dict[str, Any]:
    base = {"driver": "file", "path": f"{info.parent_dir / _PROCESS_FOLDER}/"}
    return {
        "driver": "zarr",
        "kvstore": {"driver": "ocdbt", "base": base, "path": info.name},
        "metadata": {"shape": value.stored.shape, "chunks": chunk, "compressor": {"id": "zstd", "level": 1}},
        "dtype": value.dtype.name,
        "store_data_equal_to_fill_value": True,  # Orbax takes a chunk that is not there for a lost one
    }


def _pieces(directory: pathlib.Path, name: str) -> Iterator[np.ndarray]:
    kvstore: dict[str, Any] = {"driver": "file", "path": f"{directory / name}/"}
    if (directory / _STORE_FILE).exists():
        kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{directory}/"}, "path": f"{name}/"}
    try:
        store = ts.open({"driver": "auto", "kvstore": kvstore}, read=True).result()
        chunk: Any = store.chunk_layout.read_chunk.shape
        for start, stop in _steps(store.shape, store.dtype.numpy_dtype, chunk[0]):
            yield store[start:stop].read().result().astype(np.float32, copy=False)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name} in {directory} cannot be read ({reason}); {AGAIN}") from None
