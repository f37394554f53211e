"""Where a published VQGAN's tensors lie: safetensors, shards of them, or a file of `torch.save`."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, local_path
from cm3leon_jax.runtime.tensor_files import find_weights, read_tensors, tensor_names
from cm3leon_jax.runtime.torch_files import SUFFIXES, TorchFile


class Weights(Protocol):
    """An opened file: the names of its tensors, and their values on demand. All raises `UserError`."""

    path: pathlib.Path

    @property
    def names(self) -> list[str]: ...

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]: ...


class _Safetensors:
    def __init__(self, path: pathlib.Path):
        self.path, self.names = path, tensor_names(path)

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        return read_tensors(self.path, names)


def open_weights(weights: Path) -> Weights:
    """The file that `weights` is, or the one in the folder `weights`: of a folder with both forms, the safetensors."""
    path = local_path(weights)
    if path.is_dir() and not list(path.glob("*.safetensors*")):
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if not files:
            raise UserError(f"no weights in {path}; it must hold model.safetensors or a checkpoint such as vqgan.ckpt")
        if len(files) > 1:
            raise UserError(f"{path} holds {files[0].name}, {files[1].name} and more; name the file that has the VQGAN")
        path = files[0]
    if path.suffix in SUFFIXES:
        return TorchFile(path)
    return _Safetensors(find_weights(path))
