"""Files that are either whole or absent: everything is written aside and renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.runtime.errors import UserError

Path = str | os.PathLike


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; on success it replaces `path`, on any error it is removed.

    The block may create either a file or a directory at the temporary path.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    remove(aside)
    try:
        yield aside
        if aside.is_dir():
            remove(path)  # a directory cannot be renamed over a directory that holds files
        os.replace(aside, path)
    finally:
        remove(aside)


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[pathlib.Path]:
    """`written_aside` for a directory: yields an empty directory that becomes `path` when the block succeeds."""
    with written_aside(path) as aside:
        aside.mkdir(parents=True)
        yield aside


def remove(path: Path) -> None:
    """Removes a file or a directory tree, if it is there."""
    path = pathlib.Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, what: str, make_with: str) -> Any:
    """Reads a JSON file. A missing or broken one is a `UserError` naming `what` it is and the command that makes it."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {what} at {path}; make it with `{make_with}`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{what} at {path} cannot be read ({error}); make it again with `{make_with}`") from None


def sha256_of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: Any) -> str:
    """A short stable hash of JSON-able values and bytes: what says that two things are the same thing."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:16]
