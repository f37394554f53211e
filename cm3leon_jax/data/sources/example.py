"""What a source gives: examples with random access, and `BadExample` for one that cannot be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from cm3leon_jax.runtime.errors import UserError


class BadExample(Exception):
    """One example that cannot be used. It is passed over, counted, and listed with its reason."""

    def __init__(self, id: str, reason: str):
        super().__init__(f"{id}: {reason}")
        self.id = id
        self.reason = reason


NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


@dataclasses.dataclass(frozen=True, eq=False)
class SourceExample:
    """An image with its caption; in the splits of documents (`split_name`) a whole document."""

    id: str  # unique in its source; stable when data is added
    image: np.ndarray  # uint8 [height, width, 3], of any size; in a document it may be `NO_IMAGE`
    caption: str  # not empty but in a document: there the text before the image
    metadata: dict[str, Any]  # JSON-able provenance; of a scene its exact description
    following: tuple[tuple[str, np.ndarray], ...] = ()  # of a document, the texts and images after the first
    group: str = ""  # what the source gives as one, such as all captions of an image; "": the id

    @property
    def pairs(self) -> tuple[tuple[str, np.ndarray], ...]:
        """All texts, each with the image behind it."""
        return (self.caption, self.image), *self.following


class SourceSplit(Protocol):
    """Random access to the examples of one split; may be read from several threads."""

    @property
    def fingerprint(self) -> str:
        """Changes when an example of the split changes; work that was begun on other data is not continued."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> SourceExample:
        """Raises `BadExample`."""

    def captions(self) -> Iterator[str]:
        """All captions in order, without decoding images; empty ones are passed over. Of instructions, the texts of one
        wording each (`instructions.tasks.texts_to_learn`)."""


class SourceShard(Protocol):
    """A piece of a source that one worker works through from its beginning to its end."""

    @property
    def name(self) -> str:
        """Its own among the shards of its source, whatever data is added."""

    @property
    def fingerprint(self) -> str:
        """Changes when its data changes; what was made of other data is not kept."""

    @property
    def size(self) -> int | None:
        """How many examples it has, where that is known before they are read."""

    def examples(self) -> Iterator[tuple[str, Callable[[], SourceExample]]]:
        """(split, what reads the example) of each, in order. Reading raises `BadExample`; threads may do it."""


class Source(Protocol):
    """Random access to each split for training on images and captions; shards for going through all of it once."""

    @property
    def name(self) -> str:
        """What `open_source` was given."""

    @property
    def splits(self) -> tuple[str, ...]: ...

    def split(self, name: str) -> SourceSplit:
        """Raises `UserError` where there is no such split."""

    def shards(self, examples: int) -> Sequence[SourceShard]:
        """All of the source, in pieces of `examples` examples where it does not come in pieces."""


def require_split(source: Source, name: str) -> None:
    """`UserError` where the source has no split of that name."""
    if name not in source.splits:
        raise UserError(f"{source.name} has no split {name!r}; it has {', '.join(source.splits)}")
