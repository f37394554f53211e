"""`cm3leon train-retriever`."""

from __future__ import annotations

from cm3leon_jax.retrieval.clip.config import ClipConfig, RetrieverTrainingConfig
from cm3leon_jax.runtime.settings import LoopConfig


def train_retriever(
    source: str,
    text_tokenizer: str,
    directory: str,
    config: ClipConfig,
    training: RetrieverTrainingConfig,
    loop: LoopConfig,
    evaluation_pairs: int = 256,
) -> None:
    """Trains CLIP on the image-caption pairs of SOURCE -> DIRECTORY/model and evaluation.json."""
    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.data.sources import ImageBatches, open_source
    from cm3leon_jax.retrieval.clip.train import train_retriever as train
    from cm3leon_jax.tokenizers.text import TextTokenizer

    tokenizer = TextTokenizer.load(text_tokenizer)

    def work() -> None:
        opened = open_source(source)
        batches = ImageBatches(opened.split("train"), config.image_resolution, training.batch_size, training.seed)
        held_out = opened.split("validation")
        pairs = ImageBatches(held_out, config.image_resolution, min(evaluation_pairs, len(held_out)), seed=0)(0)
        train(config, training, loop, batches, tokenizer, directory, pairs)

    run_stage(
        directory,
        "train-retriever",
        settings={"source": source, "text_tokenizer": tokenizer.fingerprint, "config": config, "training": training},
        extendable={"loop": loop},
        work=work,
    )
