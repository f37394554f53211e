"""A part of a config file that others wrote: every value is checked when it is read, and errors name the file."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import read_json

_REMEDY = "take the file that was published with the weights"
_LIMIT = "only CLIPs built like OpenAI's can be imported"


@dataclasses.dataclass(frozen=True)
class Section:
    """Named values of the file at `path`. All methods raise `UserError`."""

    values: dict[str, Any]
    path: pathlib.Path

    def section(self, name: str) -> Section:
        """A section inside this one; an empty one where there is none."""
        return _as_section(self.values.get(name) or {}, self.path)

    def updated(self, other: Section) -> Section:
        return Section(self.values | other.values, self.path)

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number of 1 or more."""
        value = self.values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{self.path} has {name} = {value!r} where a whole number of 1 or more is due; {_REMEDY}")
        return value

    def channels(self, name: str) -> tuple[float, float, float] | None:
        """Three numbers, for red, green and blue; None where there are none."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 3 or not all(isinstance(part, float | int) for part in value):
            raise UserError(f"{self.path} has {name} = {value!r} where three numbers are due; {_REMEDY}")
        return float(value[0]), float(value[1]), float(value[2])

    def require(self, name: str, expected: Any, *, default: Any = None) -> None:
        """`default`: what a missing value stands for; the expected one, if not given."""
        value = self.values.get(name, expected if default is None else default)
        if value != expected:
            raise UserError(f"{self.path} has {name} = {value!r} where {expected!r} is due; {_LIMIT}")

    def refuse_others(self, *known: str) -> None:
        """Settings that are off (false, 0, null) are no others."""
        others = sorted(name for name, value in self.values.items() if value and name not in known)
        if others:
            raise UserError(f"{self.path} has {others[0]} = {self.values[others[0]]!r}; {_LIMIT}")


def read_section(path: pathlib.Path) -> Section:
    return _as_section(read_json(path, what="config of the weights", make_with="save_pretrained"), path)


def _as_section(value: Any, path: pathlib.Path) -> Section:
    if not isinstance(value, dict):
        raise UserError(f"{path} is not the config of a CLIP; {_REMEDY}")
    return Section(value, path)
