"""What is asked of a published data set: where it lies, which of its splits, and with which options."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import os
import re
from collections.abc import Collection, Iterable

from cm3leon_jax.data.sources.entries import Entry, EntrySource, HeldOut, require_good
from cm3leon_jax.data.sources.patterns import find_files
from cm3leon_jax.data.sources.published.pictures import Pictures
from cm3leon_jax.data.splits import SPLITS, split_name
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import as_path, files_below

_OF_ALL = ("split", "as", "images")
_SPLIT = re.compile(r"(?<![a-z])(train|val|validation|test)(?![a-z])")


def split_of(name: str) -> str:
    """The split that the name of a file or a folder tells: "train", "val", "test"; "" where it tells none."""
    found = _SPLIT.search(os.path.basename(name).lower())
    return {"validation": "val"}.get(found[1], found[1]) if found else ""


@dataclasses.dataclass(frozen=True)
class OneSplit(HeldOut):
    """All entries are of one split: what is held out was decided by those who published them."""

    name: str = "train"

    def split(self, entries: Iterable[Entry]) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {name: [] for name in SPLITS}
        for entry in entries:
            found.setdefault(split_name(self.name, entry.kind), []).append(entry)
        return found


@dataclasses.dataclass(frozen=True)
class Request:
    """`KIND:WHERE?split=val&as=validation&images=FOLDER&…`. WHERE is a folder, or the first of its files."""

    kind: str
    where: str
    options: dict[str, str]
    hint: str
    held_out: HeldOut

    @property
    def spec(self) -> str:
        """What the source was called."""
        options = "&".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.kind}:{self.where}" + (f"?{options}" if options else "")

    @functools.cached_property
    def root(self) -> str:
        """The folder. `UserError` where it is missing."""
        path = as_path(self.where)
        if path.is_dir():
            return str(path)
        if not path.exists():
            raise UserError(f"no folder {path} for {self.kind}: {self.hint}")
        return str(path.parent.parent if path.parent.name == "annotations" else path.parent)

    @functools.cached_property
    def split(self) -> str:
        """The published split: the one named, else that of the file that is WHERE, else "train"."""
        of_file = "" if as_path(self.where).is_dir() else split_of(self.where)
        return self.options.get("split") or of_file or "train"

    def refuse_split(self, what: str) -> None:
        """`UserError` where a split is named, though there are none."""
        if "split" in self.options:
            raise UserError(f"{self.spec}: {what} have no splits: leave out split=")

    @functools.cached_property
    def below(self) -> list[str]:
        """Paths of all files below the folder."""
        return files_below(self.root)

    def number(self, name: str, default: int, least: int = 1) -> int:
        """An option that is a whole number. `UserError` where it is none, or below `least`."""
        given = self.options.get(name, str(default))
        if not given.isascii() or not given.isdigit() or not least <= int(given) < 10**9:
            raise UserError(f"{self.spec} has {name}={given}: give a whole number, {least} or more")
        return int(given)

    def path(self, name: str) -> str:
        """The path that an option gives, from the folder on. `UserError` where nothing is there."""
        path = as_path(self.root) / self.options[name]
        if not path.exists():
            raise UserError(f"{self.spec}: nothing is at {path}: correct {name}=")
        return str(path)

    def file(self, name: str, *patterns: str, first: bool = False) -> str:
        """The file called `name`, as `files` finds it. `UserError` where there are several or none."""
        found = self.files(name, *patterns, first=first)
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"several {name} files: {', '.join(found[:3])}: name one with ?{name}=FILE")
        splits = sorted({split_of(each) for pattern in patterns for each in self._matching(pattern)} - {""})
        others = f" (there is split={', split='.join(splits)})" if splits else ""
        raise UserError(
            f"no {name} file {' or '.join(patterns)} of split {self.split!r} in {self.root}{others}: "
            f"{self.hint}, or name the file with ?{name}=FILE"
        )

    def files(self, name: str, *patterns: str, first: bool = False) -> list[str]:
        """The file that the option `name` gives, or WHERE (for the `first` of the files), or those whose names match
        the first of the patterns that any matches, and tell of this split or of none."""
        if name in self.options:
            path = self.path(name)
            if as_path(path).is_dir():
                raise UserError(f"{self.spec}: {path} is a folder: name a file with {name}=")
            return [path]
        if first and as_path(self.where).is_file():
            return [self.where]
        for pattern in patterns:
            found = self._matching(pattern)
            for wanted in (self.split, ""):
                if of_split := [each for each in found if split_of(each) == wanted]:
                    return [str(as_path(self.root) / each) for each in of_split]
        return []

    def tables(self) -> list[str]:
        """The parquet files that WHERE names and whose names tell of this split, or all where none tells of any."""
        found = find_files(self.where, ".parquet")
        told = {split_of(each) for each in found}
        if told == {""} or as_path(self.where).is_file():
            return found
        if self.split not in told:
            others = ", ".join(sorted(told - {""}))
            raise UserError(
                f"no parquet file in {self.where} is of split {self.split!r}: name another (?split=: {others})"
            )
        return [each for each in found if split_of(each) == self.split]

    def _matching(self, pattern: str) -> list[str]:
        return [path for path in self.below if fnmatch.fnmatch(os.path.basename(path), pattern)]

    def pictures(self) -> Pictures:
        """Those below the folder, or below that of the option `images`."""
        if "images" not in self.options:
            return Pictures(self.root, self.below)
        return Pictures(self.path("images"), files_below(self.path("images")))

    def source(self, entries: Iterable[Entry], pictures: Pictures) -> EntrySource:
        """`UserError` where no entry can be used, or a file cannot be read."""
        try:
            listed = list(entries)
        except OSError as error:
            raise UserError(f"{self.spec}: {error}: copy it again") from None
        require_good(listed, self.spec, self.hint)
        return EntrySource(self.spec, self.held_out.split(listed), pictures)


def parse_request(kind: str, spec: str, options: Collection[str], hint: str, held_out: HeldOut) -> Request:
    """`UserError` for an option that is neither one of `options` nor of all kinds, or a split that there is not."""
    where, _, query = spec.partition("?")
    given = {}
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        known = (*_OF_ALL, *options)
        if name not in known or not value:
            raise UserError(f"{kind}:{spec} has {part!r}: its options are {', '.join(f'{each}=…' for each in known)}")
        given[name] = value
    if "split" in given:
        given["split"] = {"validation": "val"}.get(given["split"], given["split"])
        if given["split"] not in ("train", "val", "test"):
            raise UserError(f"{kind}:{spec}: a split is train, val or test")
    if given.get("as", "train") not in SPLITS:
        raise UserError(f"{kind}:{spec}: as= is one of {', '.join(SPLITS)}")
    return Request(kind, where, given, hint, OneSplit(name=given["as"]) if "as" in given else held_out)
