"""Tensors of files that `torch.save` made (`.ckpt`, `.pt`, `.pth`, `.bin`), without PyTorch and without unpickling.

Such a file is a zip archive: `data.pkl` describes the contents, and `data/0`, `data/1`, … hold the tensors' bytes
(those from before PyTorch 1.6: torch_legacy.py). What the pickle would call is never called (inert_pickle.py). Nothing
is read beyond what the file itself is long, so that a file from a stranger can be opened safely.
"""

from __future__ import annotations

import contextlib
import functools
import math
import pathlib
import struct
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.inert_pickle import Call, Global, Persistent, read_pickle
from cm3leon_jax.runtime.torch_legacy import LegacyArchive, is_legacy

SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")
_LARGEST_PICKLE = 8 << 20  # bytes; tensors are not in it, and a VQGAN's with its optimizers' needs less than 1 MiB
_MOST_AXES = 8
_TYPES = {
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
}


class TorchFile:
    """The tensors of a state dict, at the top of the file or under `state_dict`, as PyTorch Lightning has it.

    Opening reads their names alone. All raises `UserError`, of one line.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        with _archive(path) as archive:
            contents = archive.contents
        if isinstance(contents, dict) and isinstance(contents.get("state_dict"), dict):
            contents = contents["state_dict"]
        entries = contents.items() if isinstance(contents, dict) else ()
        tensors = {name: _tensor_call(value) for name, value in entries if isinstance(name, str)}
        self._tensors = {name: call for name, call in tensors.items() if call is not None}
        if not self._tensors:
            raise UserError(f"{path} holds no state dict (names with tensors); name the checkpoint of a model")

    @property
    def names(self) -> list[str]:
        return list(self._tensors)

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The named tensors, in the types that they are kept in; they may share memory, and cannot be written to."""
        tensors: dict[str, np.ndarray] = {}
        storages: dict[str, bytes] = {}
        with _archive(self.path) as archive:
            # Bytes that the file does not have would come from members that overlap, or from tensors that repeat.
            unread = untold = self.path.stat().st_size
            for name in names:
                described = _described(self._tensors[name])
                if described.key not in storages:
                    storages[described.key] = archive.storage(described.key, unread)
                    unread -= len(storages[described.key])
                tensors[name] = _array(described, storages[described.key])
                untold -= tensors[name].nbytes
                if untold < 0:
                    raise ValueError("its tensors are larger than the file")
        return tensors


@contextlib.contextmanager
def _archive(path: pathlib.Path) -> Iterator[_ZipArchive | LegacyArchive]:
    """The opened archive. What goes wrong with it is a `UserError`."""
    if not path.is_file():
        raise UserError(f"no weights at {path}; name a file that torch.save made")
    try:
        with open(path, "rb") as file:
            if is_legacy(file):
                yield LegacyArchive(file, _TYPES, _LARGEST_PICKLE)
                return
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    yield _ZipArchive(archive)
                return
    except (OSError, ValueError, EOFError, LookupError, RuntimeError, zipfile.BadZipFile, struct.error) as error:
        reason = "".join(sign if sign.isprintable() else "?" for sign in str(error)[:200])  # with a stranger's names
        raise UserError(f"{path} cannot be read ({reason}); copy or download it again") from None
    raise UserError(
        f"{path} is not a file that torch.save made, or not all of it; copy it again, or load it with PyTorch where "
        "you trust it and save its state dict once more"
    )


class _ZipArchive:
    """A zip archive as `torch.save` has made it since PyTorch 1.6."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1 or len(set(archive.namelist())) != len(archive.namelist()):
            raise ValueError(f"it holds {len(pickles)} pickles, or members of the same name")
        self._root = pickles[0].removesuffix("data.pkl")
        if f"{self._root}byteorder" in archive.namelist():
            order = _member(archive, f"{self._root}byteorder", 16)
            if order != b"little":
                raise ValueError(f"its byte order is {order!r}, not little")

    @functools.cached_property
    def contents(self) -> Any:
        return read_pickle(_member(self._archive, f"{self._root}data.pkl", _LARGEST_PICKLE))

    def storage(self, key: str, limit: int) -> bytes:
        """The bytes of a storage, of which there may be `limit`."""
        return _member(self._archive, f"{self._root}data/{key}", limit)


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """The bytes of a member, which torch.save always stores as they are."""
    member = archive.NameToInfo.get(name)
    if member is None:
        raise ValueError(f"{name} is missing")
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise ValueError(f"{name} is compressed or encrypted, as torch.save does not do it")
    if not member.file_size == member.compress_size <= limit:
        raise ValueError(f"{name} is said to have {member.file_size} bytes, more than there are or may be")
    data = archive.read(member)
    if len(data) != member.file_size:
        raise ValueError(f"{name} is cut off")
    return data


class _Described(NamedTuple):
    """A tensor as a view of a storage; offset and strides in elements."""

    key: str
    dtype: np.dtype
    elements: int  # of the storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor_call(value: Any) -> Call | None:
    """The call that builds a tensor, if `value` is a tensor or a parameter."""
    if isinstance(value, Call) and value.calls("torch._utils._rebuild_parameter"):
        value = value.arguments[0] if isinstance(value.arguments, tuple) and value.arguments else None
    return value if isinstance(value, Call) and value.calls("torch._utils._rebuild_tensor_v2") else None


def _described(call: Call) -> _Described:
    """What the call says, once it is sure to be of the right types. Raises `ValueError`."""
    match call.arguments:
        case (
            Persistent(id=("storage", Global(name=kind), str(key), _, int(elements), *views)),
            int(offset),
            tuple(shape),
            tuple(strides),
            *_,
        ) if (
            not any(views)
            and len(shape) == len(strides) <= _MOST_AXES
            and all(type(value) is int and value >= 0 for value in (elements, offset, *shape, *strides))
        ):
            if kind not in _TYPES:
                raise ValueError(f"a tensor is kept as {kind}")
            return _Described(key, _TYPES[kind], elements, offset, shape, strides)
    raise ValueError("a tensor is not described as torch.save does it")


def _array(tensor: _Described, storage: bytes) -> np.ndarray:
    if len(storage) != tensor.elements * tensor.dtype.itemsize:
        raise ValueError(f"data/{tensor.key} has {len(storage)} bytes, not {tensor.elements} elements")
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if not 0 < math.prod(tensor.shape) <= tensor.elements or tensor.offset + last >= tensor.elements:
        raise ValueError(f"a tensor of shape {list(tensor.shape)} does not lie within data/{tensor.key}")
    elements = np.frombuffer(storage, tensor.dtype)[tensor.offset :]
    # The stride of an axis of one element may be any number.
    sizes = zip(tensor.shape, tensor.strides, strict=True)
    strides = [stride * tensor.dtype.itemsize if size > 1 else 0 for size, stride in sizes]
    return np.lib.stride_tricks.as_strided(elements, tensor.shape, strides, writeable=False)
