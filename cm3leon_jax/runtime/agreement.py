"""All processes run the same thing: what each of them is about to do is compared before anything is compiled.

Otherwise a host with an older checkout or another file of data hangs the pod, or trains another model, in silence.
"""

from __future__ import annotations

import collections
import importlib.metadata
import json
import pathlib
import platform
from typing import Any

from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def check_same(settings: dict[str, Any]) -> None:
    """Raises `UserError`, in all processes, where this package's code, the versions below it or `settings` (JSON-able)
    are not the same in all. It names the process and one thing that differs."""
    if hosts.count() == 1:
        return
    everyone = hosts.gather({"host": hosts.name(), "facts": facts() | flat(settings)})
    difference = first_difference([each["facts"] for each in everyone], [each["host"] for each in everyone])
    if difference:
        raise UserError(difference)


def facts() -> dict[str, str]:
    """What this process runs on."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return versions | {"python": platform.python_version(), "the code of cm3leon_jax": code_fingerprint()}


def code_fingerprint() -> str:
    """Names the exact Python files of this package."""
    root = pathlib.Path(__file__).parent.parent
    files = sorted(root.rglob("*.py"))
    return fingerprint(*(part for file in files for part in (str(file.relative_to(root)), file.read_bytes())))


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict -> {"a.b": value}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def first_difference(facts: list[dict[str, Any]], names: list[str]) -> str:
    """One line about the first thing in which someone differs from most of the others; empty if no one does."""
    for name in dict.fromkeys(key for each in facts for key in each):
        values = [json.dumps(each.get(name), sort_keys=True) for each in facts]
        (usual, _), *others = collections.Counter(values).most_common()
        if others:
            number = next(index for index, value in enumerate(values) if value != usual)
            more = sum(value != usual for value in values) - 1
            also = f", and so do {more} more" if more else ""
            return (
                f"{names[number]} differs from the others in {name}: {values[number]} there, {usual} elsewhere{also};"
                " make all hosts the same"
            )
    return ""
