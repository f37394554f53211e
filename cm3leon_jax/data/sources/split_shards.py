"""Shards of a source that has random access: ranges of its splits."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

from cm3leon_jax.data.sources.example import Source, SourceExample, SourceSplit
from cm3leon_jax.runtime.files import fingerprint


@dataclasses.dataclass(frozen=True)
class SplitShard:
    """Consecutive examples of one split."""

    name: str
    split_name: str
    split: SourceSplit
    range: range

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.split.fingerprint, [self.range.start, self.range.stop])

    @property
    def size(self) -> int:
        return len(self.range)

    def examples(self) -> Iterator[tuple[str, Callable[[], SourceExample]]]:
        for index in self.range:
            yield self.split_name, functools.partial(self.split.__getitem__, index)


def shards_of_splits(source: Source, examples: int) -> list[SplitShard]:
    """The splits of a source in ranges of `examples` examples, split behind split."""
    shards = []
    for name in source.splits:
        split = source.split(name)
        for start in range(0, len(split), examples):
            where = range(start, min(start + examples, len(split)))
            shards.append(SplitShard(f"{name}-{start // examples:05d}", name, split, where))
    return shards
