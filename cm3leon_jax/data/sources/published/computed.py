"""Conditions that are found in the pictures of any other source: `canny:folder:PICTURES`, `scribble:parquet:DATA`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

from cm3leon_jax.data.sources.example import BadExample, Source, SourceExample, SourceShard, SourceSplit, require_split
from cm3leon_jax.data.sources.instructions import instruction, instruction_example
from cm3leon_jax.data.sources.published.edges import COMPUTED, canny_of_scikit_image
from cm3leon_jax.data.splits import INTERLEAVED, SPLITS, split_name
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.instructions.tasks import texts_to_learn
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint

_VERSION = 1  # of how conditions are found: what was begun by another is not continued


def computed_source(kind: str, source: Source) -> ComputedSource:
    """The images with captions of `source`, to be drawn from their edges or scribbles. Raises `UserError`."""
    check_computed(kind)
    canny_of_scikit_image()
    return ComputedSource(kind, source)


def check_computed(kind: str) -> None:
    """`UserError` where this kind of condition is not found here."""
    if kind not in COMPUTED:
        raise UserError(
            f"{kind} cannot be found in the pictures of another source, as {' and '.join(COMPUTED)} can: "
            f"name {kind}:FOLDER that holds prompt.json, or pictures and ?conditions=FOLDER"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ComputedSource:
    """Its examples have two pictures, so they are in the splits "train.interleaved" and so on."""

    kind: str
    source: Source

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.source.name}"

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split_name(name, INTERLEAVED) for name in self.source.splits if name in SPLITS)

    def split(self, name: str) -> ComputedSplit:
        require_split(self, name)
        return ComputedSplit(self.kind, self.source.split(name.removesuffix(f".{INTERLEAVED}")))

    def shards(self, examples: int) -> list[ComputedShard]:
        return [ComputedShard(self.kind, shard) for shard in self.source.shards(examples)]


@dataclasses.dataclass(frozen=True, eq=False)
class ComputedSplit:
    kind: str
    inner: SourceSplit

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.inner.fingerprint, self.kind, _VERSION)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> SourceExample:
        return _with_condition(self.kind, functools.partial(self.inner.__getitem__, index))

    def captions(self) -> Iterator[str]:
        for index, caption in enumerate(self.inner.captions()):
            yield from texts_to_learn(instruction(self.kind, caption=caption), index)


@dataclasses.dataclass(frozen=True, eq=False)
class ComputedShard:
    kind: str
    inner: SourceShard
    size = None  # documents among the examples are passed over

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.inner.fingerprint, self.kind, _VERSION)

    def examples(self) -> Iterator[tuple[str, Callable[[], SourceExample]]]:
        for split, read in self.inner.examples():
            if split in SPLITS:
                yield split_name(split, INTERLEAVED), functools.partial(_with_condition, self.kind, read)


def _with_condition(kind: str, read: Callable[[], SourceExample]) -> SourceExample:
    example = read()
    said = example.metadata.get(KEY)
    caption = example.caption if said is None else said.get("fields", {}).get("caption")
    if not caption:
        raise BadExample(example.id, "it is an instruction without a caption")
    metadata = {key: value for key, value in example.metadata.items() if key != KEY}
    images = [COMPUTED[kind](example.image), example.image]
    return instruction_example(example.id, instruction(kind, caption=caption), images, metadata)
