"""A stage: one command's work in one folder. It runs once for the same settings, and says so when asked again."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import resource
import subprocess
import time
from collections.abc import Callable
from typing import Any

from cm3leon_jax import __version__
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, read_json, write_json
from cm3leon_jax.runtime.platform import seconds_waited

STAGE_FILE = "stage.json"
GIN_FILE = "operative.gin"


def run_stage(
    directory: Path, command: str, *, settings: dict[str, Any], extendable: dict[str, Any], work: Callable[[], object]
) -> None:
    """Runs `work` unless `directory` already holds its result.

    `settings` are what the result depends on: a folder begun with other settings is refused. `extendable` ones (how
    long to train, how often to log) may change: a longer run then continues. The time spent, counted from the process's
    start, is added up over restarts.
    """
    path = pathlib.Path(directory) / STAGE_FILE
    settings, extendable = _as_json(settings), _as_json(extendable)
    record: dict[str, Any] = {"command": command, "seconds": 0.0, "peak_memory_gib": 0.0}
    if path.exists():
        record = read_json(path, what="stage record", make_with=f"cm3leon {command}")
        _refuse_other_settings(record, command, settings, directory)
        if record["finished"] and record["extendable"] == extendable:
            print(f"{command}: {directory} is finished; nothing to do", flush=True)
            return
    record |= {"settings": settings, "extendable": extendable, "version": __version__, "finished": False}
    write_json(path, record)
    write_operative_gin(directory)
    started = time.perf_counter() - seconds_waited()
    try:
        work()
        record["finished"] = True
    finally:
        record["seconds"] += time.perf_counter() - started
        record["peak_memory_gib"] = max(record["peak_memory_gib"], peak_memory_gib())
        write_json(path, record)


def _refuse_other_settings(record: dict, command: str, settings: dict, directory: Path) -> None:
    if record["command"] != command:
        raise UserError(f"{directory} holds the result of `cm3leon {record['command']}`; choose another folder")
    flat_old, flat_new = _flat(record["settings"]), _flat(settings)
    changed = sorted(name for name in flat_old | flat_new if flat_old.get(name) != flat_new.get(name))
    if changed:
        first = changed[0]
        raise UserError(
            f"{directory} was made with other settings ({first}: {flat_old.get(first)!r} there, {flat_new.get(first)!r}"
            f" now; {len(changed)} differ): choose another folder, or remove it to start over"
        )


def write_operative_gin(directory: Path) -> None:
    """Writes every gin binding in force beside a command's output."""
    import gin

    pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    (pathlib.Path(directory) / GIN_FILE).write_text(gin.config_str(), encoding="utf-8")


def peak_memory_gib() -> float:
    """The largest resident size of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def commit() -> str | None:
    """The commit of the code that runs, where it runs from a git checkout."""
    root = pathlib.Path(__file__).parent.parent.parent
    result = subprocess.run(
        ["git", "-C", os.fspath(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return result.stdout.strip() if result.returncode == 0 else None


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: _plain(item) for key, item in dataclasses.asdict(value).items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else _plain(value)
        for name, value in values.items()
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
