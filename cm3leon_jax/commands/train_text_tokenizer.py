"""`cm3leon train-text-tokenizer`."""

from __future__ import annotations

from cm3leon_jax.tokenizers.text import TextTokenizerConfig


def train_text_tokenizer(source: str, directory: str, config: TextTokenizerConfig) -> None:
    """Trains SentencePiece on the captions and other texts of SOURCE -> DIRECTORY/model.

    A source is named as folder:PATH, webdataset:PATTERN, parquet:PATTERN, tfds:NAME or scenes:PATH (docs/data.md)."""
    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.data.sources import documents_of, open_source
    from cm3leon_jax.tokenizers import text

    split = documents_of(open_source(source), "train")
    run_stage(
        directory,
        "train-text-tokenizer",
        settings={"source": source, "config": config},
        extendable={},
        work=lambda: text.train_text_tokenizer(split.captions(), config, f"{directory}/model"),
    )
