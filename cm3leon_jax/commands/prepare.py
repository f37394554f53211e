"""`cm3leon prepare`."""

from __future__ import annotations

from cm3leon_jax.data.prepare.config import PrepareConfig
from cm3leon_jax.retrieval.memory_bank import MemoryBankConfig
from cm3leon_jax.retrieval.selection import SelectionConfig


def prepare(
    source: str,
    text_tokenizer: str,
    image_tokenizer: str,
    retriever: str,
    directory: str,
    config: PrepareConfig,
    selection: SelectionConfig,
    memory_bank: MemoryBankConfig,
) -> None:
    """Turns the images and captions of SOURCE into documents for training, in DIRECTORY:
    tokenized, embedded, without duplicates, indexed for retrieval, each with its neighbours."""
    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.data.prepare import pipeline
    from cm3leon_jax.data.sources import open_source
    from cm3leon_jax.retrieval.clip.retriever import Retriever
    from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
    from cm3leon_jax.tokenizers.text import TextTokenizer

    opened = open_source(source)
    models = (TextTokenizer.load(text_tokenizer), ImageTokenizer.load(image_tokenizer), Retriever.load(retriever))
    run_stage(
        directory,
        "prepare",
        settings={
            "source": source,
            "models": [model.fingerprint for model in models],
            "config": config,
            "selection": selection,
            "memory_bank": memory_bank,
        },
        extendable={},
        work=lambda: pipeline.prepare(
            opened, *models, f"{directory}/data", config, selection=selection, memory_bank=memory_bank
        ),
    )
