"""Which shards' indexes are in memory: as many as may be, and those that were used last."""

from __future__ import annotations

from collections.abc import Iterable

from cm3leon_jax.retrieval.memory_bank.index import Index
from cm3leon_jax.retrieval.memory_bank.live import LiveShard
from cm3leon_jax.retrieval.memory_bank.shard import Shard


class ResidentIndexes:
    """Indexes of at most `limit` bytes together (None: no limit), and always one. Each is loaded when it is first asked
    for; before another is loaded, those that were not used for longest make room."""

    def __init__(self, limit: int | None):
        self._limit = limit
        self._indexes: dict[str, tuple[Index, int]] = {}  # by the shard's folder, with its bytes; the last used last

    @property
    def nbytes(self) -> int:
        return sum(size for _, size in self._indexes.values())

    def get(self, shard: Shard) -> Index:
        """The index of a shard. The caller lets go of it before it asks for another."""
        name = shard.directory.name
        if name not in self._indexes:
            size = shard.nbytes
            while self._indexes and self._limit is not None and self.nbytes + size > self._limit:
                del self._indexes[next(iter(self._indexes))]
            self._indexes[name] = shard.load_index(), size
        self._indexes[name] = self._indexes.pop(name)
        return self._indexes[name][0]

    def resident_first(self, shards: Iterable[LiveShard]) -> list[LiveShard]:
        """In this order a bank that does not fit in memory is gone through without loading again what is there."""
        return sorted(shards, key=lambda live: live.shard.directory.name not in self._indexes)

    def keep_only(self, shards: Iterable[LiveShard]) -> None:
        names = {live.shard.directory.name for live in shards}
        self._indexes = {name: held for name, held in self._indexes.items() if name in names}
