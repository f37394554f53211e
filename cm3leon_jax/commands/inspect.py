"""`cm3leon inspect`."""

from __future__ import annotations

from cm3leon_jax.data.objective import ObjectiveConfig
from cm3leon_jax.data.settings import PretrainingConfig


def inspect(
    prepared: str,
    text_tokenizer: str,
    image_tokenizer: str,
    pretraining: PretrainingConfig,
    objective: ObjectiveConfig,
    task: str = "pretraining",
    split: str = "train",
    count: int = 8,
    seed: int = 0,
    output: str = "sequences.html",
) -> None:
    """Prints COUNT sequences of a task or mixture as the model is trained on them, and draws their images.

    TASK: pretraining (the mixture), pretraining.retrieval_augmented_pairs or pretraining.plain_pairs."""
    from cm3leon_jax.data.inspection import inspect_sequences
    from cm3leon_jax.data.shards import PreparedData
    from cm3leon_jax.data.tasks import pretraining_mixture, sample_sequences
    from cm3leon_jax.runtime.files import written_aside
    from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
    from cm3leon_jax.tokenizers.text import TextTokenizer

    text, image = TextTokenizer.load(text_tokenizer), ImageTokenizer.load(image_tokenizer)
    data = PreparedData(prepared)
    data.check(text=text.fingerprint, image=image.fingerprint)
    with pretraining_mixture(prepared, "pretraining", pretraining, objective, text):
        sequences = sample_sequences(task, split=split, count=count, seed=seed)
    inspection = inspect_sequences(sequences, data.vocabulary, text, image)
    print(inspection.text)
    with written_aside(output) as aside:
        aside.write_text(inspection.html, encoding="utf-8")
    print(f"with their images: {output}")
