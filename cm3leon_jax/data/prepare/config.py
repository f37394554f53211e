"""Settings of `cm3leon prepare`."""

from __future__ import annotations

import dataclasses

from cm3leon_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    examples_per_shard: int = 4096  # of the source; a killed run does at most one shard's work again
    batch_size: int = 256  # examples a call of the image tokenizer and of the retriever
    seed: int = 0  # of the dropout in training queries
    query_drop: float = 0.2  # share of a training query's tokens and patches dropped before the search (CM3Leon §2.1)
    max_caption_tokens: int = 512  # longer captions are quarantined
    max_bad_share: float = 0.1  # of the examples; with more bad ones than this, preparing stops
    num_sentinels: int = 512  # of the joint vocabulary
    vocabulary_multiple_of: int = 128  # rows of the embedding table are padded to a multiple of this

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if name in ("query_drop", "max_bad_share"):
                if not 0 <= value <= 1:
                    raise UserError(f"PrepareConfig.{name} = {value}: give a share from 0 to 1")
            elif name != "seed" and value < 1:
                raise UserError(f"PrepareConfig.{name} = {value}: give at least 1")
