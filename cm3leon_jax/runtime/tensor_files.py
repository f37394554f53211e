"""Weights that others made, as safetensors: one file, or shards with an index. Pickles are refused: they run code."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import ml_dtypes  # noqa: F401 - teaches NumPy the name of bfloat16
import numpy as np
import safetensors

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, read_json

FILE = "model.safetensors"
INDEX = f"{FILE}.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
AGAIN = "copy or download it again"
Result = TypeVar("Result")


def find_weights(weights: Path, names: tuple[str, ...] = (FILE, INDEX)) -> pathlib.Path:
    """The safetensors file or the index of shards that `weights` is, or that lies in the folder `weights`: the first of
    `names` that is there, else the only `.safetensors` file. Raises `UserError`."""
    path = pathlib.Path(weights)
    if path.suffix in _PICKLES:
        raise UserError(_not_a_pickle(path))
    if path.is_file():
        if not path.name.endswith((".safetensors", ".safetensors.index.json")):
            raise UserError(f"{path} is not a .safetensors file; name one, or the folder with {FILE}")
        return path
    if not path.is_dir():
        raise UserError(f"no weights at {path}; name a .safetensors file, or the folder with {FILE}")
    for name in names:
        if (path / name).is_file():
            return path / name
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if files:
        raise UserError(f"{path} holds {len(files)} .safetensors files and no index of them; name one of the files")
    for file in sorted(path.iterdir()):
        if file.suffix in _PICKLES:
            raise UserError(_not_a_pickle(file))
    raise UserError(f"no weights in {path}; it must hold {FILE}")


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    """The file itself, or all shards that an index names. Raises `UserError` where the index is broken, or a shard
    lacks a tensor that the index promises."""
    if path.suffix == ".safetensors":
        return [path]
    index = read_json(path, what="index of weights", make_with="save_pretrained")
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise UserError(f"{path} has no weight_map that says which tensor is in which file; {AGAIN}")
    for file in places.values():
        if pathlib.PurePath(file).name != file:
            raise UserError(f"{path} names a file outside its folder, {file!r}; {AGAIN}")
    files = [path.parent / file for file in sorted(set(places.values()))]
    held = {file.name: _names(file) for file in files}
    for name, file in places.items():
        if name not in held[file]:
            raise UserError(f"{path.parent / file} lacks the tensor {name} that {path.name} promises; {AGAIN}")
    return files


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, or of all shards that an index names, in the types that they are kept in.

    Raises `UserError` where a file is missing, cut off or broken, or lacks a tensor that the index promises.
    """
    tensors: dict[str, np.ndarray] = {}
    for file in files_of(path):
        tensors |= _opened(file, lambda opened: {name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
    return tensors


def _names(path: pathlib.Path) -> set[str]:
    return _opened(path, lambda opened: set(opened.keys()))


def _opened(path: pathlib.Path, read: Callable[[Any], Result]) -> Result:
    try:
        with safetensors.safe_open(path, framework="np") as opened:
            return read(opened)
    except FileNotFoundError:
        raise UserError(f"no weights at {path}; {AGAIN}") from None
    except (OSError, TypeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); {AGAIN}") from None


def _not_a_pickle(path: pathlib.Path) -> str:
    return (
        f"{path} is a pickle, which may run any code when it is opened; load it with PyTorch where you trust it, and "
        f"save it as safetensors (`model.save_pretrained(FOLDER)`, or `safetensors.torch.save_file`)"
    )
