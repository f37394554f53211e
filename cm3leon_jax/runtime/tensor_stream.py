"""Safetensors files read and written piece by piece: weights larger than memory can pass through.

The safetensors library checks a file before it is read here, but gives whole tensors by mapping the file into memory,
and writes only what is in memory as a whole. The format itself is a length, a header of JSON, and the bytes.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO

import ml_dtypes
import numpy as np
import safetensors

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, is_remote, open_to_read
from cm3leon_jax.runtime.tensor_files import AGAIN, check_places, tensor_places

PIECE_BYTES = 2**24
_READ_BYTES = 2**22
# Bytes that are read at once at least: fewer take as long. In an object store each read is a request.
_SMALLEST, _SMALLEST_REMOTE = 2**8, 2**20
_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(bool),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, local or in an object store. Only what is asked for is read."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def rows(self, start: int, stop: int) -> np.ndarray:
        """A part of the first axis."""
        return self.read((slice(start, stop), *[slice(None)] * (len(self.shape) - 1)))

    def read(self, index: tuple[slice, ...]) -> np.ndarray:
        """The part that the slices name, one for each axis, of step 1."""
        if not self.shape:
            return self.__class__(self.file, self.offset, (1,), self.dtype).read((slice(None),)).reshape(())
        bounds = [part.indices(size)[:2] for part, size in zip(index, self.shape, strict=True)]
        sizes = [stop - start for start, stop in bounds]
        # Inside the last axis that is cut, bytes lie together. Where they are few, more is read and cut afterwards.
        axis = max((axis for axis, size in enumerate(sizes) if size < self.shape[axis]), default=0)
        together = [int(np.prod(self.shape[each + 1 :])) * self.dtype.itemsize for each in range(len(self.shape))]
        if axis and sizes[axis] * together[axis] < (_SMALLEST_REMOTE if is_remote(self.file) else _SMALLEST):
            axis -= 1
        found = _aligned(sizes, self.dtype)
        step = max(1, _READ_BYTES // max(1, together[axis]))
        with _unbuffered(self.file) as file:
            for outer in np.ndindex(*sizes[:axis]):
                row = 0
                for at, (start, _), size in zip(outer, bounds, self.shape, strict=False):
                    row = row * size + start + at
                for first in range(0, sizes[axis], step):
                    rows = min(step, sizes[axis] - first)
                    start = (row * self.shape[axis] + bounds[axis][0] + first) * together[axis]
                    part = found[(*outer, slice(first, first + rows))]
                    whole = part if part[:1].nbytes == together[axis] else self._empty(rows, axis)
                    self._read_into(whole, file, self.offset + start)
                    if whole is not part:
                        part[:] = whole[(slice(None), *index[axis + 1 :])]
        return found

    def _empty(self, rows: int, axis: int) -> np.ndarray:
        return np.empty((rows, *self.shape[axis + 1 :]), self.dtype)

    def _read_into(self, array: np.ndarray, file: BinaryIO, offset: int) -> None:
        """Fills an array whose bytes lie together."""
        left = array.reshape(-1).view(np.uint8).data
        file.seek(offset)
        while left:
            if not (count := file.readinto(left)):  # type: ignore[attr-defined]
                raise UserError(f"{self.file} was cut off while it was read; {AGAIN}")
            left = left[count:]

    def all(self) -> np.ndarray:
        return self.rows(0, self.shape[0])

    def chunks(self) -> Iterator[np.ndarray]:
        """All rows, a few MiB at a time."""
        step = max(1, PIECE_BYTES // max(1, int(np.prod(self.shape[1:])) * self.dtype.itemsize))
        for start in range(0, self.shape[0], step):
            yield self.rows(start, min(start + step, self.shape[0]))


@dataclasses.dataclass(frozen=True)
class NewTensor:
    """A tensor to be written: `pieces()` are its rows in order, however they are cut."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: Callable[[], Iterable[np.ndarray]]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


def stored_tensors(path: pathlib.Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, or of all shards that an index names; only headers are read.

    Raises `UserError` as `tensor_files.read_tensors` does.
    """
    if path.suffix == ".safetensors":
        return _in_file(path)
    places = tensor_places(path)
    tensors: dict[str, StoredTensor] = {}
    for file in sorted(set(places.values())):
        tensors |= _in_file(path.parent / file)
    check_places(path, places, tensors)
    return tensors


def _aligned(shape: list[int], dtype: np.dtype) -> np.ndarray:
    """An empty array that begins at a multiple of 64 bytes: JAX's CPU devices take it over and make no copy."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def _unbuffered(path: Path) -> BinaryIO:
    """A file in which one reads as many bytes as one asks for; in an object store, about as many."""
    return open_to_read(path) if is_remote(path) else open(path, "rb", buffering=0)


def _in_file(path: Path) -> dict[str, StoredTensor]:
    try:
        if not is_remote(path):
            with safetensors.safe_open(path, framework="np"):  # sizes, offsets and types are checked
                pass
        with open_to_read(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            size = file.seek(0, io.SEEK_END)
        header.pop("__metadata__", None)
        tensors = {
            name: StoredTensor(path, 8 + length + each["data_offsets"][0], tuple(each["shape"]), _DTYPES[each["dtype"]])
            for name, each in header.items()
        }
        for tensor in tensors.values():
            if tensor.offset + int(np.prod(tensor.shape)) * tensor.dtype.itemsize > size:
                raise ValueError(f"it has {size} bytes and is cut off")
        return tensors
    except FileNotFoundError:
        raise UserError(f"no weights at {path}; {AGAIN}") from None
    except KeyError as error:
        raise UserError(f"{path} keeps tensors as {error}; save them as float32, float16 or bfloat16") from None
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); {AGAIN}") from None


def write_tensors(
    path: pathlib.Path, tensors: Mapping[str, NewTensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes one safetensors file, as the library would: the widest type first, then by name."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in order:
            begin = file.tell()
            for piece in tensors[name].pieces():
                file.write(np.ascontiguousarray(piece, tensors[name].dtype).reshape(-1).view(np.uint8).data)
                del piece  # before the next is made
            if file.tell() - begin != tensors[name].nbytes:
                raise ValueError(f"{name}: {file.tell() - begin} bytes of {tensors[name].nbytes}")


def write_sharded(
    folder: pathlib.Path,
    tensors: Mapping[str, NewTensor],
    *,
    file: str,
    index: str,
    shard_bytes: int,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes one file of at most `shard_bytes`, or several and an index of them, as Hugging Face lays them out.

    `file` is the name of the only one, such as "model.safetensors"; of several "model-00001-of-00003.safetensors".
    """
    shards: list[dict[str, NewTensor]] = [{}]
    for name, tensor in tensors.items():
        if shards[-1] and sum(each.nbytes for each in shards[-1].values()) + tensor.nbytes > shard_bytes:
            shards.append({})
        shards[-1][name] = tensor
    if len(shards) == 1:
        write_tensors(folder / file, shards[0], metadata)
        return
    stem, suffix = os.path.splitext(file)
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"{stem}-{number:05d}-of-{len(shards):05d}{suffix}"
        write_tensors(folder / name, shard, metadata)
        places |= dict.fromkeys(shard, name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    (folder / index).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
