"""Examples in many files, each of which can be worked through alone: a data set of any size."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cm3leon_jax.data.sources.entries import (
    Entry,
    EntrySource,
    EntrySplit,
    HeldOut,
    Store,
    require_good,
)
from cm3leon_jax.data.sources.example import SourceExample, require_split
from cm3leon_jax.data.splits import SPLITS
from cm3leon_jax.runtime.files import file_state, fingerprint, is_remote
from cm3leon_jax.runtime.progress import progress


@dataclasses.dataclass(frozen=True, eq=False)
class FileSource:
    """Entries of a file are read when they are needed: all of them for random access, a file's for its shard."""

    name: str
    files: Sequence[str]
    labels: Sequence[str]  # of the files, each its own: what ids begin with
    read: Callable[[int, str, str], Iterator[Entry]]  # the entries of a file, by its number, path and label
    store: Store
    held_out: HeldOut
    settings: Any  # what entries depend on besides the files, JSON-able
    hint: str  # what to do where no entry can be used
    splits: tuple[str, ...] = SPLITS
    images_apart: bool = False  # as files of their own, which change when the files above do not

    def split(self, name: str) -> EntrySplit:
        require_split(self, name)
        return self._all.split(name) if name in self._all.splits else EntrySplit([], self.store)

    def shards(self, examples: int) -> list[FileShard]:
        """One for each file, whatever `examples` is."""
        del examples
        return [FileShard(self, number) for number in range(len(self.files))]

    def entries(self, number: int) -> Iterator[Entry]:
        """Of the file with this number."""
        return self.read(number, self.files[number], self.labels[number])

    @functools.cached_property
    def _all(self) -> EntrySource:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            read = pool.map(lambda number: list(self.entries(number)), range(len(self.files)))
            bar = progress(read, label="reading files", total=len(self.files), unit="files", delay=2.0)
            entries = [entry for part in bar for entry in part]
        require_good(entries, self.name.partition(":")[2], self.hint)
        return EntrySource(self.name, self.held_out.split(entries), self.store)


@dataclasses.dataclass(frozen=True, eq=False)
class FileShard:
    """One file; its examples are of all splits."""

    source: FileSource
    number: int
    size = None

    @property
    def name(self) -> str:
        return self.source.labels[self.number]

    @property
    def fingerprint(self) -> str:
        held_out, path = dataclasses.asdict(self.source.held_out), self.source.files[self.number]
        found = [file_state(path), self.source.settings, held_out]
        if self.source.images_apart and not is_remote(path):  # asking an object store for each would take hours
            found.append(EntrySplit(list(self.source.entries(self.number)), self.source.store).fingerprint)
        return fingerprint(*found)

    def examples(self) -> Iterator[tuple[str, Callable[[], SourceExample]]]:
        splits = self.source.held_out.split(self.source.entries(self.number))
        alone = EntrySource(self.source.name, splits, self.source.store)
        for name in alone.splits:
            split = alone.split(name)
            for index in range(len(split)):
                yield name, functools.partial(split.__getitem__, index)
