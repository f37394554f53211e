"""`cm3leon train-image-tokenizer`."""

from __future__ import annotations

from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig, ImageTokenizerTraining


def train_image_tokenizer(
    source: str,
    directory: str,
    config: ImageTokenizerConfig,
    training: ImageTokenizerTraining,
    loop: LoopConfig,
    evaluation_images: int = 256,
) -> None:
    """Trains a VQGAN on the images of SOURCE -> DIRECTORY/model, evaluation.json and reconstructions.png."""
    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.data.sources import ImageBatches, documents_of, open_source
    from cm3leon_jax.data.splits import INTERLEAVED, PAIRS
    from cm3leon_jax.tokenizers.image.train import train_image_tokenizer as train

    def work() -> None:
        opened, kinds = open_source(source), (PAIRS, INTERLEAVED)
        documents = documents_of(opened, "train", kinds)
        batches = ImageBatches(documents, config.resolution, training.batch_size, training.seed)
        held_out = documents_of(opened, "validation", kinds)
        count = min(evaluation_images, len(held_out))
        images, _ = ImageBatches(held_out, config.resolution, count, seed=0)(0)
        train(config, training, loop, lambda step: batches(step)[0], directory, images)

    run_stage(
        directory,
        "train-image-tokenizer",
        settings={"source": source, "config": config, "training": training},
        extendable={"loop": loop},
        work=work,
    )
