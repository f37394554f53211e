"""A finished model as a folder: `config.json` and `weights.safetensors`. Tokenizers and retrievers are kept so.

No pickles: a folder from a stranger can be opened safely. The fingerprint names the exact weights, so that data made
with one tokenizer is never mixed with another's.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np
import safetensors
import safetensors.numpy

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import (
    Path,
    as_path,
    fingerprint,
    is_remote,
    new_directory,
    read_json,
    sha256_of_file,
    write_json,
)

Config = TypeVar("Config")
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"


def flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    """A nested dict -> {"a/b/c": leaf}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def unflatten(flat: dict[str, Any]) -> dict:
    """The inverse of `flatten`. All keys are strings."""
    tree: dict = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def save_model(directory: Path, *, kind: str, config: Any, params: dict) -> None:
    """Writes a model folder, whole or not at all. `config` is a flat dataclass; `params` a nested dict of arrays."""
    with new_directory(directory) as aside:
        write_json(aside / CONFIG_FILE, {"kind": kind, **dataclasses.asdict(config)})
        arrays = {name: np.ascontiguousarray(value) for name, value in flatten(params).items()}
        safetensors.numpy.save_file(arrays, aside / WEIGHTS_FILE)


def load_config(directory: Path, *, kind: str, config_type: type[Config], make_with: str) -> Config:
    """Reads the config of a model folder; `UserError` where it is missing or of another kind."""
    fields = read_json(as_path(directory) / CONFIG_FILE, what=f"{kind} config", make_with=make_with)
    found = fields.pop("kind", None)
    if found != kind:
        raise UserError(f"{directory} holds a {found!r} model where a {kind!r} is needed; name another folder")
    # JSON has no tuples, and a config is hashed as a static argument of compiled functions.
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    try:
        return config_type(**fields)
    except TypeError as error:
        raise UserError(f"the config in {directory} is of another version ({error}); `{make_with}` again") from None


def load_model(directory: Path, *, kind: str, config_type: type[Config], make_with: str) -> tuple[Config, dict]:
    """Reads a model folder -> (config, nested dict of numpy arrays)."""
    config = load_config(directory, kind=kind, config_type=config_type, make_with=make_with)
    path = as_path(directory) / WEIGHTS_FILE
    try:
        if is_remote(path):
            return config, unflatten(safetensors.numpy.load(path.read_bytes()))
        return config, unflatten(safetensors.numpy.load_file(path))
    except FileNotFoundError:
        raise UserError(f"no weights at {path}; make them with `{make_with}`") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"weights at {path} cannot be read ({error}); make them again with `{make_with}`") from None


def model_fingerprint(directory: Path) -> str:
    """Names the exact config and weights of a model folder. `UserError`: it is none."""
    directory = as_path(directory)
    try:
        return fingerprint(sha256_of_file(directory / CONFIG_FILE), sha256_of_file(directory / WEIGHTS_FILE))
    except OSError as error:
        raise UserError(f"{directory} is not the folder of a model ({error.strerror or error}); name one") from None
