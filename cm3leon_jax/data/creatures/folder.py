"""The folder that the other commands read creatures from: the config alone, from which everything follows."""

from __future__ import annotations

from typing import Any

from cm3leon_jax.data.creatures.world import CreaturesConfig
from cm3leon_jax.runtime import files
from cm3leon_jax.runtime.errors import UserError

MANIFEST = "creatures.json"
MAKE_WITH = "cm3leon creatures"
VERSION = 1  # of the world: raised when the same config gives other pictures or captions


def write_creatures(directory: files.Path, config: CreaturesConfig) -> None:
    """Describes the world in `directory`/creatures.json."""
    files.as_path(directory).mkdir(parents=True, exist_ok=True)
    files.write_json(files.as_path(directory) / MANIFEST, {"version": VERSION, "config": config.to_dict()})


def read_creatures(directory: files.Path) -> CreaturesConfig:
    """The config of the world that `write_creatures` described. Raises `UserError` where there is none."""
    path = files.as_path(directory) / MANIFEST
    found: dict[str, Any] = files.read_json(path, what="world of creatures", make_with=MAKE_WITH)
    if found.get("version") != VERSION:
        raise UserError(f"{path} is of another version of the world; make it again with `{MAKE_WITH}`")
    return CreaturesConfig(**found["config"])
