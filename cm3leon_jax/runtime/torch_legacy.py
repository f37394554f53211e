"""Files of `torch.save` from before PyTorch 1.6, when they were no zip archives, read without unpickling anything.

Five pickles lie one behind the other (a magic number, the protocol, the machine, the contents, the storages' keys), and
then, in the order of the keys, each storage: the number of its elements in eight bytes, and its bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from cm3leon_jax.runtime.inert_pickle import Call, Global, Persistent, read_pickle

MAGIC = 0x1950A86A20F9469CFC6C
_START = b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # how the pickle of the magic number begins
_PROTOCOL = 1001


def is_legacy(file: BinaryIO) -> bool:
    """Whether a file at its beginning is one of these; it is left at its beginning."""
    start = file.read(len(_START))
    file.seek(0)
    return start == _START


class LegacyArchive:
    """An opened file. `types`: the storages that are known, by the name of their class. Raises `ValueError`, of one
    line, where the file is not what `torch.save` makes."""

    def __init__(self, file: BinaryIO, types: Mapping[str, np.dtype], largest_pickles: int):
        self._file = file
        pickles = io.BytesIO(file.read(largest_pickles))
        magic, protocol, machine, self.contents, keys = (read_pickle(pickles) for _ in range(5))
        if magic != MAGIC or protocol != _PROTOCOL:
            raise ValueError(f"its protocol is {protocol!r:.20}, not {_PROTOCOL}")
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise ValueError("its byte order is not little")
        self._places = self._find(keys, _storage_types(self.contents), types, pickles.tell())

    def storage(self, key: str, limit: int) -> bytes:
        """The bytes of a storage, of which there may be `limit`."""
        if key not in self._places:
            raise ValueError(f"data/{key} is missing")
        place, size = self._places[key]
        if size > limit:
            raise ValueError(f"data/{key} is said to have {size} bytes, more than there are or may be")
        self._file.seek(place)
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError(f"data/{key} is cut off")
        return data

    def _find(
        self, keys: Any, kinds: dict[str, str], types: Mapping[str, np.dtype], place: int
    ) -> dict[str, tuple[int, int]]:
        """Where each storage's bytes begin, and how many they are."""
        places: dict[str, tuple[int, int]] = {}
        for key in keys if isinstance(keys, list) else ():
            kind = kinds.get(key) if isinstance(key, str) else None
            if kind is None or kind not in types or key in places:
                raise ValueError(f"a storage is kept as {kind}, or twice")
            self._file.seek(place)
            elements = int.from_bytes(self._file.read(8), "little", signed=True)
            if elements < 0:
                raise ValueError("a storage has fewer than no elements")
            places[key] = (place + 8, elements * types[kind].itemsize)
            place += 8 + places[key][1]
        return places


def _storage_types(contents: Any) -> dict[str, str]:
    """The class of each storage that the contents name, by its key."""
    found: dict[str, str] = {}
    seen: set[int] = set()
    values = [contents]
    while values:
        value = values.pop()
        if id(value) in seen:
            continue  # pickles share what they hold, so that a walk without memory may never end
        seen.add(id(value))
        match value:
            case Persistent(id=("storage", Global(name=kind), str(key), *_)):
                found[key] = kind
            case Call(function=function, arguments=arguments):
                values += [function, arguments]
            case dict():
                values += value.values()
            case list() | tuple():
                values += value
    return found
