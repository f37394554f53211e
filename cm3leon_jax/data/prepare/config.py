"""Settings of `cm3leon prepare`."""

from __future__ import annotations

import dataclasses
from typing import Any

from cm3leon_jax.data.sources.images import FITS
from cm3leon_jax.retrieval.memory_bank import MemoryBankConfig
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.runtime.errors import UserError

NEAR_COPIES = ("leave_out", "same_caption", "keep")
HELD_OUT_COPIES = ("leave_out", "keep")


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    examples_per_shard: int = 4096  # of a source that is not in files; a killed run does at most a shard's work again
    batch_size: int = 256  # examples a call of the image tokenizer and of the retriever
    fit: str = "crop"  # of images to the tokenizer's square: their centre; or "pad" with white, or "stretch"
    seed: int = 0  # of the dropout in training queries
    query_drop: float = 0.2  # share of a training query's tokens and patches dropped before the search (CM3Leon §2.1)
    max_caption_tokens: int = 512  # longer captions are quarantined
    max_bad_share: float = 0.1  # of the examples; with more bad ones than this, preparing stops
    # Of an image with its caption and a near copy of it, the later one is left out: whatever their captions
    # ("leave_out"), only with the same caption but for case and punctuation ("same_caption"), or not ("keep").
    near_copies: str = "leave_out"
    # What is held out is left out if its image is trained on, or a near copy of it ("leave_out"), or not ("keep").
    held_out_copies: str = "leave_out"  # with "keep" in both, images are not compared
    shards_per_search: int = 16  # a worker searches for the documents of so many shards at once
    bank_memory_gib: float = 0.0  # of a worker, for the memory bank, which is searched piece by piece; 0: all of it
    num_sentinels: int = 512  # of the joint vocabulary
    vocabulary_multiple_of: int = 128  # rows of the embedding table are padded to a multiple of this
    # Ids of the joint vocabulary that are never used. None: the paper's 1,024 with tokenizers of its sizes, else none.
    # Data for a model that was made without them needs 0.
    num_others: int | None = None

    @property
    def of_the_work(self) -> dict[str, float]:
        """The fields that say how it is done, or when to stop, and change nothing in the documents: unfinished work may
        be continued with others."""
        return {name: getattr(self, name) for name in ("max_bad_share", "shards_per_search", "bank_memory_gib")}

    @property
    def of_the_result(self) -> dict[str, Any]:
        """The other fields."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in self.of_the_work}

    def __post_init__(self) -> None:
        closed = {"fit": FITS, "near_copies": NEAR_COPIES, "held_out_copies": HELD_OUT_COPIES}
        for name, allowed in closed.items():
            if (value := getattr(self, name)) not in allowed:
                raise UserError(f"PrepareConfig.{name} = {value!r}: use one of {', '.join(allowed)}")
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, str):
                continue
            if name in ("query_drop", "max_bad_share"):
                if not 0 <= value <= 1:
                    raise UserError(f"PrepareConfig.{name} = {value}: give a share from 0 to 1")
            elif (
                value is not None and value < (0 if name in ("bank_memory_gib", "num_others") else 1) and name != "seed"
            ):
                raise UserError(f"PrepareConfig.{name} = {value}: give at least 1")


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that the result depends on besides the source and the models."""

    prepare: PrepareConfig
    selection: SelectionConfig
    memory_bank: MemoryBankConfig
