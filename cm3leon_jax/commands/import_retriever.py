"""`cm3leon import-retriever`."""

from __future__ import annotations


def import_retriever(weights: str, directory: str) -> None:
    """Makes a retriever of a published CLIP, for instance OpenAI's ViT-B/32 -> DIRECTORY/model.

    --weights names a folder with model.safetensors, config.json, and vocab.json and merges.txt (or tokenizer.json),
    as Hugging Face's save_pretrained writes it, or one of open_clip's with open_clip_config.json; or a .safetensors
    file in such a folder."""
    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.retrieval.clip.published.load import load_published

    retriever = load_published(weights)  # before anything is written, since there is much that can be wrong with it
    run_stage(
        directory,
        "import-retriever",
        settings={"weights": weights, "config": retriever.config},
        extendable={},
        work=lambda: retriever.save(f"{directory}/model"),
    )
