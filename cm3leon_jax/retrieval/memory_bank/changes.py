"""What changes a memory bank: each function writes new files beside the old ones and gives the manifest that is to be
written last, which names them."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from cm3leon_jax.retrieval.memory_bank.config import MemoryBankConfig
from cm3leon_jax.retrieval.memory_bank.grouping import groups_to_rebuild
from cm3leon_jax.retrieval.memory_bank.index import NOTHING, SMALLEST
from cm3leon_jax.retrieval.memory_bank.manifest import Manifest, ShardEntry, shard_folder
from cm3leon_jax.retrieval.memory_bank.shard import Shard, build_shard, checked
from cm3leon_jax.runtime.errors import UserError

if TYPE_CHECKING:
    from cm3leon_jax.retrieval.memory_bank.bank import MemoryBank


def build_shards(
    embeddings: np.ndarray,
    ids: np.ndarray,
    bank: pathlib.Path,
    first: int,
    config: MemoryBankConfig,
    sample_queries: np.ndarray | None,
) -> tuple[ShardEntry, ...]:
    """Divides documents evenly into shards of at most `config.documents_per_shard` and writes them into the bank's
    folder, from number `first` on."""
    embeddings, ids = checked(embeddings, ids)
    entries = []
    pieces = -(-len(ids) // config.documents_per_shard)
    for number, rows in enumerate(np.array_split(np.arange(len(ids)), pieces), start=first):
        part = slice(rows[0], rows[-1] + 1)
        folder = bank / shard_folder(number)
        shard = build_shard(embeddings[part], ids[part], folder, config=config, sample_queries=sample_queries)
        entries.append(_entry(shard))
    return tuple(entries)


def assembled(directory: pathlib.Path, encoder_fingerprint: str, config: MemoryBankConfig) -> Manifest:
    shards = [Shard(path) for path in sorted(directory.glob("shard-" + 5 * "[0-9]"))]
    if not shards:
        raise UserError(f"no shards of a memory bank in {directory}; write them with `build_shard` first")
    dims = sorted({shard.dim for shard in shards})
    if len(dims) > 1:
        raise UserError(f"the shards in {directory} have {dims} dimensions; build them all with one retriever")
    ids = np.sort(np.concatenate([shard.ids for shard in shards]))
    if (twice := ids[1:][ids[1:] == ids[:-1]]).size:
        raise UserError(f"document {twice[0]} is in two shards in {directory}; divide the documents among them")
    number = 1 + max(int(shard.directory.name.removeprefix("shard-")) for shard in shards)
    return Manifest(encoder_fingerprint, dims[0], config, number, tuple(_entry(shard) for shard in shards))


def inserted(bank: MemoryBank, embeddings: np.ndarray, ids: np.ndarray, sample_queries: np.ndarray | None) -> Manifest:
    embeddings, ids = checked(embeddings, ids)
    if embeddings.shape[1] != bank.dim:
        raise UserError(
            f"embeddings of shape {embeddings.shape} for a memory bank of {bank.dim} dimensions; use the retriever "
            "that the bank was made with"
        )
    if (there := bank.locate(ids)[0] != NOTHING).any():
        raise UserError(f"document {ids[there][0]} is in the memory bank already; remove it first")
    config = _for_as_few_as(len(ids), bank.manifest.config)
    first = bank.manifest.next_shard
    added = build_shards(embeddings, ids, bank.directory, first, config, sample_queries)
    return dataclasses.replace(bank.manifest, shards=bank.manifest.shards + added, next_shard=first + len(added))


def removed(bank: MemoryBank, ids: np.ndarray) -> Manifest:
    ids = np.unique(ids)
    numbers, _ = bank.locate(ids)
    if (numbers == NOTHING).any():
        raise KeyError(f"document {ids[numbers == NOTHING][0]} is not in the memory bank")
    entries = list(bank.manifest.shards)
    for number in np.unique(numbers):
        gone = np.union1d(bank.shards[number].removed, ids[numbers == number])
        entries[number] = entries[number].with_removed(gone, bank.directory)
    return dataclasses.replace(bank.manifest, shards=tuple(entries))


def compacted(bank: MemoryBank, config: MemoryBankConfig, max_removed_share: float) -> Manifest:
    groups = groups_to_rebuild(bank.manifest.shards, config.documents_per_shard, max_removed_share)
    number = bank.manifest.next_shard
    added: tuple[ShardEntry, ...] = ()
    for group in groups:
        shards = [bank.shards[place] for place in group]
        ids = np.concatenate([live.ids for live in shards])
        if not len(ids):
            continue
        embeddings = np.concatenate([block for live in shards for block in live.blocks()])
        new = build_shards(embeddings, ids, bank.directory, number, _for_as_few_as(len(ids), config), None)
        added, number = added + new, number + len(new)
    replaced = {place for group in groups for place in group}
    kept = tuple(entry for place, entry in enumerate(bank.manifest.shards) if place not in replaced)
    return dataclasses.replace(bank.manifest, shards=kept + added, next_shard=number)


def _entry(shard: Shard) -> ShardEntry:
    return ShardEntry(shard.directory.name, shard.count, shard.recall_at_10)


def _for_as_few_as(count: int, config: MemoryBankConfig) -> MemoryBankConfig:
    """What comes and stays may be too little for the kind of index that the bank was built with."""
    return config if count >= SMALLEST else dataclasses.replace(config, kind="brute_force")
