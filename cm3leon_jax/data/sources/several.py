"""Several sources as one, with or without weights."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cm3leon_jax.data.sources.example import BadExample, Source, SourceExample, SourceShard, SourceSplit, require_split
from cm3leon_jax.data.splits import KINDS, split_name
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint

SEPARATOR = " + "
_WEIGHT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\*(.*)", re.DOTALL)


class Weighted(NamedTuple):
    """A source as it is named, and how often its examples are used, relative to the others'; None: just as often."""

    spec: str
    weight: float | None


class Share(NamedTuple):
    """Consecutive examples of a split, and how often they are used, relative to the other shares. Without weights, that
    is how many they are: all examples are used equally often."""

    range: range
    weight: float


def split_specs(spec: str) -> list[Weighted]:
    """From "0.7*folder:A + 0.3*parquet:B" the two with their weights. `UserError`: only some have one, or one is 0."""
    found = []
    for part in spec.split(SEPARATOR):
        match = _WEIGHT.fullmatch(part.strip())
        found.append(Weighted(match[2], float(match[1])) if match else Weighted(part.strip(), None))
    weights = [each.weight for each in found]
    if None in weights and any(weight is not None for weight in weights):
        raise UserError(f"{spec!r} weighs some sources and not others: write WEIGHT*SOURCE for all of them or for none")
    if not all(weights) and None not in weights:
        raise UserError(f"{spec!r} gives a source the weight 0: leave it out")
    return found


def shares_of(split: SourceSplit) -> list[Share]:
    """The parts of a split that have weights of their own; for most one, which is all of it."""
    return split.shares if isinstance(split, SeveralSplit | JoinedSplit) else [Share(range(len(split)), len(split))]


class SeveralSources:
    """Sources one behind the other. Ids begin with the number of the source, from 0, so that none are equal."""

    def __init__(self, name: str, sources: Sequence[Source], weights: Sequence[float | None]):
        self.name = name
        self.sources = sources
        self.weights = weights

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for source in self.sources for name in source.splits))

    def split(self, name: str) -> SeveralSplit:
        require_split(self, name)
        parts = {number: source.split(name) for number, source in enumerate(self.sources) if name in source.splits}
        return SeveralSplit(parts, [self.weights[number] for number in parts])

    def shards(self, examples: int) -> list[SourceShard]:
        return [
            NumberedShard(number, shard)
            for number, source in enumerate(self.sources)
            for shard in source.shards(examples)
        ]


class _Joined:
    """Splits one behind the other. Without weights all of their examples are one share."""

    def __init__(self, parts: Sequence[SourceSplit]):
        self._parts = parts
        self._ends = list(itertools.accumulate(map(len, parts)))
        self.shares = [Share(range(len(self)), len(self))]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _locate(self, index: int) -> tuple[int, int]:
        """The number of the part that an example is in, and its index there."""
        part = bisect.bisect_right(self._ends, index)
        return part, index - (self._ends[part - 1] if part else 0)

    def captions(self) -> Iterator[str]:
        """Of all parts in turn, whatever their weights."""
        return itertools.chain.from_iterable(part.captions() for part in self._parts)


class SeveralSplit(_Joined):
    """The split of that name of each source that has it."""

    def __init__(self, parts: dict[int, SourceSplit], weights: Sequence[float | None]):
        super().__init__(list(parts.values()))
        self._numbers = list(parts)
        self.is_weighed = None not in weights
        ranges = [range(end - len(part), end) for end, part in zip(self._ends, self._parts, strict=True)]
        if self.is_weighed:
            self.shares = [Share(each, weight or 0.0) for each, weight in zip(ranges, weights, strict=True) if each]

    @property
    def fingerprint(self) -> str:
        return fingerprint([part.fingerprint for part in self._parts], [share.weight for share in self.shares])

    def __getitem__(self, index: int) -> SourceExample:
        part, place = self._locate(index)
        return _numbered(self._numbers[part], functools.partial(self._parts[part].__getitem__, place))


def documents_of(source: Source, split: str, kinds: Sequence[str] = KINDS) -> SourceSplit:
    """The documents of a split that are of these kinds, what tokenizers are trained on. `UserError`: there are none."""
    names = [name for kind in kinds if (name := split_name(split, kind)) in source.splits]
    found = [source.split(name) for name in names]
    if not any(map(len, found)):
        raise UserError(f"{source.name} has no documents that are {' or '.join(names or [split])}; add some")
    return found[0] if len(found) == 1 else JoinedSplit(found)


class JoinedSplit(_Joined):
    """Splits of a source, one behind the other, with the weights that their own parts have."""

    def __init__(self, parts: Sequence[SourceSplit]):
        super().__init__(parts)
        if any(isinstance(part, SeveralSplit) and part.is_weighed for part in parts):
            firsts = [end - len(part) for part, end in zip(parts, self._ends, strict=True)]
            self.shares = [
                Share(range(first + share.range.start, first + share.range.stop), share.weight)
                for first, part in zip(firsts, parts, strict=True)
                for share in shares_of(part)
                if share.range
            ]

    @property
    def fingerprint(self) -> str:
        return fingerprint([part.fingerprint for part in self._parts])

    def __getitem__(self, index: int) -> SourceExample:
        part, place = self._locate(index)
        return self._parts[part][place]


@dataclasses.dataclass(frozen=True)
class NumberedShard:
    """A shard of the source with this number."""

    number: int
    shard: SourceShard

    @property
    def name(self) -> str:
        return f"{self.number}-{self.shard.name}"

    @property
    def fingerprint(self) -> str:
        return self.shard.fingerprint

    @property
    def size(self) -> int | None:
        return self.shard.size

    def examples(self) -> Iterator[tuple[str, Callable[[], SourceExample]]]:
        for split, read in self.shard.examples():
            yield split, functools.partial(_numbered, self.number, read)


def _numbered(number: int, read: Callable[[], SourceExample]) -> SourceExample:
    try:
        example = read()
    except BadExample as bad:
        raise BadExample(f"{number}/{bad.id}", bad.reason) from None
    group = f"{number}/{example.group}" if example.group else ""
    return dataclasses.replace(example, id=f"{number}/{example.id}", group=group)
