"""Weights that others made, as safetensors: one file, or shards with an index. Pickles are refused: they run code."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import ml_dtypes  # noqa: F401 - teaches NumPy the name of bfloat16
import numpy as np
import safetensors

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, local_path, read_json

FILE = "model.safetensors"
INDEX = f"{FILE}.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
AGAIN = "copy or download it again"


def find_weights(weights: Path, names: tuple[str, ...] = (FILE, INDEX)) -> pathlib.Path:
    """The safetensors file or the index of shards that `weights` is, or that lies in the folder `weights`: the first of
    `names` that is there, else the only `.safetensors` file. Raises `UserError`."""
    path = local_path(weights)
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


def tensor_names(path: pathlib.Path) -> list[str]:
    """The names of the tensors of a safetensors file, or of those that an index promises. Raises `UserError`."""
    if path.suffix == ".safetensors":
        with _opened(path) as file:
            return list(file.keys())
    return list(tensor_places(path))


def read_tensors(path: pathlib.Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, or of the shards that an index names, in the types that they are kept in: all,
    or those of `names` alone.

    Raises `UserError` where a file is missing, cut off or broken, or lacks a tensor that the index promises.
    """
    wanted = None if names is None else set(names)
    if path.suffix == ".safetensors":
        return _read_file(path, wanted)
    places = {name: file for name, file in tensor_places(path).items() if wanted is None or name in wanted}
    tensors: dict[str, np.ndarray] = {}
    for file in sorted(set(places.values())):
        tensors |= _read_file(path.parent / file, wanted)
    check_places(path, places, tensors)
    return tensors


def check_places(path: pathlib.Path, places: dict[str, str], tensors: Collection[str]) -> None:
    """`UserError` unless all tensors that an index promises were found."""
    for name, file in places.items():
        if name not in tensors:
            raise UserError(f"{path.parent / file} lacks the tensor {name} that {path.name} promises; {AGAIN}")


def tensor_places(path: pathlib.Path) -> dict[str, str]:
    """Of an index of shards: which tensor is in which file."""
    index = read_json(path, what="index of weights", make_with="save_pretrained")
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise UserError(f"{path} has no weight_map that says which tensor is in which file; {AGAIN}")
    for file in places.values():
        if pathlib.PurePath(file).name != file:
            raise UserError(f"{path} names a file outside its folder, {file!r}; {AGAIN}")
    return places


def _read_file(path: pathlib.Path, wanted: Collection[str] | None) -> dict[str, np.ndarray]:
    with _opened(path) as file:
        names = [name for name in file.keys() if wanted is None or name in wanted]  # noqa: SIM118 - it is not a dict
        return {name: file.get_tensor(name) for name in names}


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    """What `safetensors.safe_open` gives. What goes wrong with it is a `UserError`."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"no weights at {path}; {AGAIN}") from None
    except (OSError, TypeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); {AGAIN}") from None


def _not_a_pickle(path: pathlib.Path) -> str:
    return (
        f"{path} is a pickle, which may run any code when it is opened; load it with PyTorch where you trust it, and "
        f"save it as safetensors (`model.save_pretrained(FOLDER)`, or `safetensors.torch.save_file`)"
    )
