"""Examples that lie in files: what is known of each before its image is read, and the splits that they form."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from cm3leon_jax.data.sources.example import BadExample, SourceExample, require_split
from cm3leon_jax.data.sources.images import UnreadableImage, decode_image
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image with its caption, or the reason why it is none."""

    id: str
    place: Any = None  # of the image, as the store knows it
    caption: str = ""
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""  # why it cannot be used; "" where it can
    group: str = ""  # what is held out as one, such as all captions of an image; "": the id


class Store(Protocol):
    """Where the images of entries are; may be read from several threads."""

    def read(self, place: Any) -> bytes:
        """An encoded image. Raises `OSError`, or `UnreadableImage` where there is none."""

    def state(self, place: Any) -> Any:
        """Changes when the image changes; it is not read for that."""


class EntrySource:
    """Entries in the splits "train", "validation" and "test".

    Of the groups, about `test_share` are the split "test" and `validation_share` the split "validation": by a hash of
    each group's name, whatever else there is, so that added data moves nothing. Of several entries with one id the
    first one counts.
    """

    splits = ("train", "validation", "test")

    def __init__(
        self, name: str, entries: Iterable[Entry], store: Store, *, validation_share: float, test_share: float
    ):
        if min(validation_share, test_share) < 0 or validation_share + test_share >= 1:
            raise UserError(f"held-out shares {validation_share} and {test_share}: both are ≥ 0 and their sum is < 1")
        self.name = name
        self._splits: dict[str, list[Entry]] = {split: [] for split in self.splits}
        seen: collections.Counter[str] = collections.Counter()
        for entry in entries:
            seen[entry.id] += 1
            if seen[entry.id] > 1:
                entry = Entry(f"{entry.id} ({seen[entry.id]})", reason=f"its id {entry.id!r} was there before")
            self._splits[_split_of(entry, validation_share, test_share)].append(entry)
        self._store = store

    def split(self, name: str) -> EntrySplit:
        require_split(self, name)
        return EntrySplit(self._splits[name], self._store)


class EntrySplit:
    """The entries of one split."""

    def __init__(self, entries: list[Entry], store: Store):
        self._entries, self._store = entries, store

    @functools.cached_property
    def fingerprint(self) -> str:
        """Over ids, captions, and the states of the images: contents are not read."""
        return fingerprint([(entry.id, entry.caption, entry.reason, self._state(entry)) for entry in self._entries])

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> SourceExample:
        entry = self._entries[index]
        if entry.reason:
            raise BadExample(entry.id, entry.reason)
        try:
            image = decode_image(self._store.read(entry.place))
        except OSError as error:
            raise BadExample(entry.id, f"the image cannot be read ({error.strerror or error})") from None
        except UnreadableImage as error:
            raise BadExample(entry.id, str(error)) from None
        return SourceExample(entry.id, image, entry.caption, entry.metadata)

    def captions(self) -> Iterator[str]:
        return (entry.caption for entry in self._entries if not entry.reason)

    def _state(self, entry: Entry) -> Any:
        return None if entry.reason else self._store.state(entry.place)


def bad_caption(caption: Any, *, where: str) -> str:
    """Why it is no caption; "" where it is one. `where` names the places that were looked at."""
    if caption is None:
        return f"no caption ({where})"
    if not isinstance(caption, str):
        return f"the caption is a {type(caption).__name__}, not text"
    if not caption.strip():
        return "the caption is empty"
    return "" if printable(caption) == caption else "the caption is not valid Unicode"


def printable(text: str) -> str:
    """`text` with what UTF-8 cannot write (file names in another encoding) replaced by `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _split_of(entry: Entry, validation_share: float, test_share: float) -> str:
    digest = hashlib.blake2b(printable(entry.group or entry.id).encode(), digest_size=8).digest()
    draw = int.from_bytes(digest, "little") / 2**64
    if draw < test_share:
        return "test"
    return "validation" if draw < test_share + validation_share else "train"
