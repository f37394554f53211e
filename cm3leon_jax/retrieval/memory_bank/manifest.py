"""`bank.json`: which shard folders make up a memory bank, and how many of each one's documents were removed.

It is written last and at once, so that a bank is at any moment either what it was or what it is to be; what else lies
in its folder then is of a change that was killed, or of a state that has passed.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from cm3leon_jax.retrieval.memory_bank.config import MemoryBankConfig
from cm3leon_jax.retrieval.memory_bank.shard import MAKE_WITH
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import read_json, remove, write_json

FORMAT = 2
BANK_FILE = "bank.json"


@dataclasses.dataclass(frozen=True)
class ShardEntry:
    folder: str
    count: int  # documents in the folder, the removed ones too
    recall_at_10: float
    removed: int = 0  # documents

    @property
    def removed_file(self) -> str:
        """Their ids, int32, ascending. Removed documents only get more: no two states share a file."""
        return f"{self.folder}.removed-{self.removed}.npy"

    def removed_ids(self, bank: pathlib.Path) -> np.ndarray:
        """`UserError`: the file is missing or damaged."""
        if not self.removed:
            return np.zeros(0, np.int32)
        path = bank / self.removed_file
        try:
            ids = np.load(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); `{MAKE_WITH}` again") from None
        if ids.shape != (self.removed,):
            raise UserError(f"{path} does not fit the memory bank; `{MAKE_WITH}` again")
        return ids

    def with_removed(self, ids: np.ndarray, bank: pathlib.Path) -> ShardEntry:
        """The same shard without the documents `ids` (ascending: all that were ever removed), which are written."""
        entry = dataclasses.replace(self, removed=len(ids))
        np.save(bank / entry.removed_file, ids.astype(np.int32))
        return entry


@dataclasses.dataclass(frozen=True)
class Manifest:
    encoder_fingerprint: str
    dim: int
    config: MemoryBankConfig  # of shards that are added
    next_shard: int  # number of the next one; none is used twice, for a bank may be open elsewhere
    shards: tuple[ShardEntry, ...]

    @classmethod
    def read(cls, bank: pathlib.Path) -> Manifest:
        """`UserError`: there is no bank, or one of another version."""
        facts = read_json(bank / BANK_FILE, what="memory bank", make_with=MAKE_WITH)
        try:
            if facts.pop("format", None) == FORMAT:
                shards = tuple(ShardEntry(**entry) for entry in facts.pop("shards"))
                return cls(config=MemoryBankConfig(**facts.pop("config")), shards=shards, **facts)
        except (KeyError, TypeError):  # settings that there are no more, or not yet
            pass
        raise UserError(f"the memory bank in {bank} is of another version; `{MAKE_WITH}` again")

    def write(self, bank: pathlib.Path) -> None:
        """Makes this the state of the bank, at once."""
        write_json(bank / BANK_FILE, {"format": FORMAT} | dataclasses.asdict(self))

    def remove_leftovers(self, bank: pathlib.Path) -> None:
        """Removes shards and lists of removed documents that do not belong to this state."""
        kept = {entry.folder for entry in self.shards} | {entry.removed_file for entry in self.shards}
        for pattern in ("shard-*", ".shard-*.tmp"):
            for path in bank.glob(pattern):
                if path.name not in kept:
                    remove(path)


def shard_folder(number: int) -> str:
    """The name that a shard's folder has within the bank's."""
    return f"shard-{number:05d}"
