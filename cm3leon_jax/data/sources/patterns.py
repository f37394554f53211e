"""Names of many files in one: brace patterns, wildcards and folders."""

from __future__ import annotations

import collections
import os
import re

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import as_path, files_below

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_FILES = 1_000_000


def expand_braces(pattern: str) -> list[str]:
    """From "a{00..02}.tar" a00.tar, a01.tar, a02.tar; from "{a,b}/x" a/x, b/x; several braces give all combinations."""
    match = _BRACES.search(pattern)
    if not match:
        return [pattern]
    if ends := _RANGE.fullmatch(match[1]):
        first, last = int(ends[1]), int(ends[2])
        if not first <= last < first + _MOST_FILES:
            raise UserError(f"{{{match[1]}}} in {pattern!r}: write {{FIRST..LAST}}, at most a million numbers")
        parts = [str(number).zfill(len(ends[1])) for number in range(first, last + 1)]
    else:
        parts = match[1].split(",")
    return [each for part in parts for each in expand_braces(pattern[: match.start()] + part + pattern[match.end() :])]


def find_files(pattern: str, suffix: str) -> list[str]:
    """The files that a pattern names, in its order: of a folder those with the suffix, in it and below; with `*` in
    the last part of a path those that match. `UserError` where there are none, or one that is named is missing."""
    files: list[str] = []
    for name in expand_braces(pattern):
        path = as_path(name)
        if "*" in path.name:
            found = sorted(each for each in path.parent.glob(path.name) if not each.name.startswith("."))
        elif path.is_dir():
            found = [path / below for below in files_below(path) if below.endswith(suffix)]
        elif path.exists():
            found = [path]
        else:
            raise UserError(f"no file {name}; correct the path, or leave it out of {pattern!r}")
        if not found:
            raise UserError(
                f"no {suffix} files at {name}: name a folder, or a pattern such as DATA/{{0000..0099}}{suffix}"
            )
        files += [str(each) for each in found]
    return list(dict.fromkeys(files))


def names_of(files: list[str], suffix: str, instead: str = "") -> list[str]:
    """The files' names without folders and suffix, for the ids of their examples. `UserError` where two are equal;
    `instead` says what else than renaming helps."""
    names = [os.path.basename(file).removesuffix(suffix) for file in files]
    name, count = collections.Counter(names).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"{count} files are called {name}{suffix}, so their examples would have equal ids: rename{instead}"
        )
    return names
