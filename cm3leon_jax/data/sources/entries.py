"""Examples that lie in files: what is known of each before its image is read, and the splits that they form."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from cm3leon_jax.data.sources.example import NO_IMAGE, BadExample, SourceExample, require_split
from cm3leon_jax.data.sources.images import UnreadableImage, decode_image
from cm3leon_jax.data.sources.split_shards import SplitShard, shards_of_splits
from cm3leon_jax.data.splits import DOCUMENT_SPLITS, INTERLEAVED, PAIRS, SPLITS, TEXT_ONLY, split_name
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.instructions.tasks import texts_to_learn
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image with its caption, or the reason why it is none."""

    id: str
    place: Any = None  # of the image, as the store knows it
    caption: str = ""
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    following: Sequence[tuple[str, Any]] = ()  # of a document: texts and places of images behind the first
    reason: str = ""  # why it cannot be used; "" where it can
    group: str = ""  # what is held out as one, such as all captions of an image; "": the id

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        if self.reason or (self.place is not None and self.caption and not self.following):
            return PAIRS
        return TEXT_ONLY if self.place is None and not self.following else INTERLEAVED


class Store(Protocol):
    """Where the images of entries are; may be read from several threads."""

    def read(self, place: Any) -> bytes:
        """An encoded image. Raises `OSError`, or `UnreadableImage` where there is none."""

    def state(self, place: Any) -> Any:
        """Changes when the image changes; it is not read for that."""


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Which shares of the groups are the splits "validation" and "test"; the rest is "train". Documents that are more
    or less than an image with its caption are in splits of their own (`split_name`).

    A hash of each group's name says which, whatever else there is, so that added data moves nothing.
    """

    validation: float = 0.02
    test: float = 0.02

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise UserError(f"held-out shares {self.validation} and {self.test}: both are ≥ 0 and their sum is < 1")

    def split(self, entries: Iterable[Entry]) -> dict[str, list[Entry]]:
        """The entries of each split, in their order."""
        found: dict[str, list[Entry]] = {name: [] for name in DOCUMENT_SPLITS}
        for entry in entries:
            digest = hashlib.blake2b(printable(entry.group or entry.id).encode(), digest_size=8).digest()
            draw = int.from_bytes(digest, "little") / 2**64
            held = "validation" if draw < self.test + self.validation else "train"
            found[split_name("test" if draw < self.test else held, entry.kind)].append(entry)
        return {name: entries for name, entries in found.items() if entries or name in SPLITS}


class EntrySource:
    """Entries by split, with their images. Of several entries with one id the first one counts."""

    def __init__(self, name: str, splits: dict[str, list[Entry]], store: Store):
        self.name = name
        self._store = store
        seen: collections.Counter[str] = collections.Counter()
        self._splits = {
            split: [_first_of_its_id(entry, seen) for entry in entries] for split, entries in splits.items()
        }

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._splits)

    def split(self, name: str) -> EntrySplit:
        require_split(self, name)
        return EntrySplit(self._splits[name], self._store)

    def shards(self, examples: int) -> list[SplitShard]:
        return shards_of_splits(self, examples)


def _first_of_its_id(entry: Entry, seen: collections.Counter[str]) -> Entry:
    seen[entry.id] += 1
    if seen[entry.id] == 1:
        return entry
    return Entry(f"{entry.id} ({seen[entry.id]})", reason=f"its id {entry.id!r} was there before")


class EntrySplit:
    """The entries of one split."""

    def __init__(self, entries: list[Entry], store: Store):
        self._entries, self._store = entries, store

    @functools.cached_property
    def fingerprint(self) -> str:
        """Over ids, texts, metadata, and the states of the images: contents are not read."""
        return fingerprint([(each.id, each.reason, each.metadata, self._states(each)) for each in self._entries])

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> SourceExample:
        entry = self._entries[index]
        if entry.reason:
            raise BadExample(entry.id, entry.reason)
        try:
            image = self._image(entry.place)
            following = tuple((text, self._image(place)) for text, place in entry.following)
        except OSError as error:
            raise BadExample(entry.id, f"the image cannot be read ({error.strerror or error})") from None
        except UnreadableImage as error:
            raise BadExample(entry.id, str(error)) from None
        return SourceExample(entry.id, image, entry.caption, entry.metadata, following, entry.group)

    def without_images(self, index: int) -> SourceExample:
        """The example with `NO_IMAGE` for each of its images: nothing is decoded. Raises `BadExample`."""
        entry = self._entries[index]
        if entry.reason:
            raise BadExample(entry.id, entry.reason)
        following = tuple((text, NO_IMAGE) for text, _ in entry.following)
        return SourceExample(entry.id, NO_IMAGE, entry.caption, entry.metadata, following, entry.group)

    def captions(self) -> Iterator[str]:
        for index, entry in enumerate(self._entries):
            if entry.reason:
                continue
            if KEY in entry.metadata:
                yield from texts_to_learn(entry.metadata[KEY], index)
            else:
                yield from (text for text, _ in ((entry.caption, None), *entry.following) if text)

    def _image(self, place: Any) -> np.ndarray:
        return NO_IMAGE if place is None else decode_image(self._store.read(place))

    def _states(self, entry: Entry) -> list:
        """Texts and states of the images."""
        if entry.reason:
            return []
        pairs = ((entry.caption, entry.place), *entry.following)
        return [(text, None if place is None else self._store.state(place)) for text, place in pairs]


def bad_caption(caption: Any, *, where: str) -> str:
    """Why it is no caption; "" where it is one. `where` names the places that were looked at."""
    if caption is None:
        return f"no caption ({where})"
    if not isinstance(caption, str):
        return f"the caption is a {type(caption).__name__}, not text"
    if not caption.strip():
        return "the caption is empty"
    return "" if printable(caption) == caption else "the caption is not valid Unicode"


def leaves_folder(name: str) -> bool:
    """Whether a name that others have written, with slashes of either kind, is absolute or goes up."""
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or not parts[0] or parts[0].endswith(":")


def printable(text: str) -> str:
    """`text` with what UTF-8 cannot write (file names in another encoding) replaced by `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


def require_good(entries: Sequence[Entry], where: str, hint: str) -> None:
    """`UserError` where no entry can be used."""
    if all(entry.reason for entry in entries):
        why = f" (the first: {entries[0].id}: {entries[0].reason})" if entries else ""
        raise UserError(f"no example in {where} can be used{why}: {hint}")


def by_captions(id: str, captions: Any, place: Any, metadata: dict[str, Any], *, where: str) -> Iterator[Entry]:
    """The entries of an image with one caption or with several: `id`, `id#2`, …, held out together."""
    several = captions if isinstance(captions, list) else [captions]
    for count, caption in enumerate(several or [None]):
        each = id if not count else f"{id}#{count + 1}"
        if reason := bad_caption(caption, where=where):
            yield Entry(each, reason=reason, group=id)
        else:
            yield Entry(each, place, caption.strip(), metadata, group=id)
