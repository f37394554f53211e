"""The memory bank: embeddings of documents on disk, searched by ScaNN for the largest inner product (CM3Leon §2.1).

A bank is divided into shards, each with an index of its own, so that many workers can build it, it may be larger than
memory, and documents come and go without building it anew.
"""

from cm3leon_jax.retrieval.memory_bank.bank import MemoryBank
from cm3leon_jax.retrieval.memory_bank.config import KINDS, MemoryBankConfig
from cm3leon_jax.retrieval.memory_bank.index import NOTHING
from cm3leon_jax.retrieval.memory_bank.manifest import shard_folder
from cm3leon_jax.retrieval.memory_bank.recall import measure_recall
from cm3leon_jax.retrieval.memory_bank.shard import build_shard

__all__ = ["KINDS", "NOTHING", "MemoryBank", "MemoryBankConfig", "build_shard", "measure_recall", "shard_folder"]
