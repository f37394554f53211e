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
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.agreement import check_same, flat
from cm3leon_jax.runtime.compute_dtype import AUTO
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, check_writable, read_json, write_json
from cm3leon_jax.runtime.platform import seconds_waited

STAGE_FILE = "stage.json"
GIN_FILE = "operative.gin"


def run_stage(
    directory: Path, command: str, *, settings: dict[str, Any], extendable: dict[str, Any], work: Callable[[], object]
) -> None:
    """Runs `work` unless `directory` already holds its result.

    `settings` are what the result depends on: a folder begun with other settings is refused. `extendable` ones (how
    long to train, how often to log) may change: a longer run then continues. The time spent, counted from the process's
    start, is added up over restarts. Where several processes work on it, they must agree on all of that, and process 0
    keeps the record.
    """
    settings, extendable = _as_json(settings), _as_json(extendable)
    bindings = dict(line.split(" = ", 1) for line in _gin().splitlines() if " = " in line)
    check_same({"command": command, "directory": os.fspath(directory), **settings, **extendable, "gin": bindings})
    record = hosts.tell(lambda: _record(directory, command, settings, extendable))
    if record is None:
        return
    check_writable(directory)
    started = time.perf_counter() - seconds_waited()

    def write(finished: bool) -> None:
        if hosts.is_first():
            write_json(as_path(directory) / STAGE_FILE, record | {"finished": finished})

    write(finished=False)
    if hosts.is_first():
        write_operative_gin(directory)
    finished = False
    try:
        work()
        finished = True
    finally:
        record["seconds"] += time.perf_counter() - started
        record["peak_memory_gib"] = max(record["peak_memory_gib"], peak_memory_gib())
        write(finished)


def _record(directory: Path, command: str, settings: dict, extendable: dict) -> dict[str, Any] | None:
    """The record of the work to do, with what earlier starts have cost; None where nothing is left to do."""
    path = as_path(directory) / STAGE_FILE
    cost = {"seconds": 0.0, "peak_memory_gib": 0.0}
    if path.exists():
        found = read_json(path, what="stage record", make_with=f"cm3leon {command}")
        done = found["finished"] and found["extendable"] == extendable
        _refuse_other_settings(found, command, settings, directory, done=done)
        if done:
            print(f"{command}: {directory} is finished; nothing to do", flush=True)
            return None
        cost = {name: found[name] for name in cost}
    return {"command": command, **cost, "settings": settings, "extendable": extendable, "version": __version__}


def _refuse_other_settings(record: dict, command: str, settings: dict, directory: Path, *, done: bool) -> None:
    if record["command"] != command:
        raise UserError(f"{directory} holds the result of `cm3leon {record['command']}`; choose another folder")
    flat_old, flat_new = flat(record["settings"]), flat(settings)
    changed = sorted(
        name
        for name in flat_old | flat_new
        if flat_old.get(name) != flat_new.get(name)
        # A run that goes on does so in its checkpoint's dtype or in an explicit one (`runtime/compute_dtype.py`).
        and not (name.endswith(".compute_dtype") and (not done or flat_new.get(name) == AUTO))
    )
    if changed:
        first = changed[0]
        raise UserError(
            f"{directory} was made with other settings ({first}: {flat_old.get(first)!r} there, {flat_new.get(first)!r}"
            f" now; {len(changed)} differ): choose another folder, or remove it to start over"
        )


def write_operative_gin(directory: Path) -> None:
    """Writes every gin binding in force beside a command's output."""
    as_path(directory).mkdir(parents=True, exist_ok=True)
    (as_path(directory) / GIN_FILE).write_text(_gin(), encoding="utf-8")


def _gin() -> str:
    import gin

    return gin.config_str()


def peak_memory_gib() -> float:
    """The largest resident size of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def commit() -> str | None:
    """The commit of the code that runs, where it runs from a git checkout and git is installed."""
    command = ["git", "-C", os.fspath(pathlib.Path(__file__).parent.parent.parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
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
