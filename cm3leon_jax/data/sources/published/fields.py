"""Reading files of JSON that others have written, and their values, which may be missing or of another kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry, printable
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import as_path

_LARGEST = 1e9  # of sizes and places in pixels; not infinite
_NAMES: dict[type, str] = {list: "a list", dict: "an object"}


def parse_json(data: bytes) -> Any:
    """`ValueError` where it is not JSON; NaN and Infinity are not."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_whole(path: str, *, hint: str) -> Any:
    """`UserError` where the file is not JSON."""
    try:
        return parse_json(as_path(path).read_bytes())
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read as JSON ({reason}): copy it again; {hint}") from None


def read_object(path: str, *, hint: str, **keys: type) -> dict[str, Any]:
    """A JSON object in which these keys have values of these types (dict or list). `UserError` where it has not."""
    value = read_whole(path, hint=hint)
    if not isinstance(value, dict):
        raise UserError(f"{path} is no JSON object, but a {type(value).__name__}: {hint}")
    for key, kind in keys.items():
        if not isinstance(value.get(key), kind):
            there = ", ".join(map(printable, list(value)[:12])) or "none"
            raise UserError(f"{path} has no {key!r} that is {_NAMES[kind]}; its keys are {there}: {hint}")
    return value


def read_list(path: str, *, hint: str) -> list[Any]:
    """A JSON list. `UserError` where it is none."""
    value = read_whole(path, hint=hint)
    if not isinstance(value, list):
        what = f"an object with {', '.join(map(printable, list(value)[:12]))}" if isinstance(value, dict) else "none"
        raise UserError(f"{path} is no JSON list, but {what}: {hint}")
    return value


def each_row(rows: Iterable[Any], name: str, make: Callable[[dict[str, Any]], Iterable[Entry]]) -> Iterator[Entry]:
    """What `make` makes of each row; for one that is not a JSON object, or of which it raises a `ValueError`, an entry
    with that reason, called by `name` and the row's number from 1 on."""
    for number, row in enumerate(rows, start=1):
        try:
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
            yield from make(row)
        except ValueError as error:
            yield Entry(f"{name}:{number}", reason=" ".join(str(error).split())[:300])


def text(row: dict[str, Any], key: str, default: str | None = None) -> str:
    """A text without the space around it. `ValueError`: it is none, or empty and without a default."""
    value = row.get(key)
    if default is not None and (value is None or (isinstance(value, str) and not value.strip())):
        return default
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text {key!r}" if value in (None, "") else f"{key!r} is no text: {_short(value)}")
    if printable(value) != value:
        raise ValueError(f"{key!r} is not valid Unicode")
    return value.strip()


def integer(row: dict[str, Any], key: str) -> int:
    """A whole number of at most 18 digits that is not negative, also as text. `ValueError`: it is none."""
    value = row.get(key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**18:
        raise ValueError(f"no {key!r}" if value is None else f"{key!r} is no whole number: {_short(value)}")
    return value


def numbers(row: dict[str, Any], key: str, count: int) -> list[float]:
    """A list of so many numbers, none of them huge. `ValueError`: it is none."""
    value = row.get(key)
    if isinstance(value, list) and len(value) == count and all(map(_is_finite, value)):
        return value
    raise ValueError(f"no {key!r}" if value is None else f"{key!r} is no list of {count} numbers: {_short(value)}")


def objects(row: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of JSON objects that is not empty. `ValueError`: it is none."""
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"no {key!r}" if not value else f"{key!r} is no list of objects: {_short(value)}")
    return value


def kept(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    """For the metadata: the keys that are there."""
    return {key: row[key] for key in keys if row.get(key) is not None}


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _LARGEST


def _short(value: Any) -> str:
    return printable(json.dumps(value))[:80]
