"""`cm3leon import`."""

from __future__ import annotations

import os


def import_model(
    weights: str, directory: str, resolution: int | None = None, prepared: str = "", text_tokenizer: str = ""
) -> None:
    """Makes a model of this package, DIRECTORY/model, of what other software saved; its files say what it is.

    Decoder: a folder of `cm3leon export`, as Hugging Face's OPT (also trained further there) or from Orbax.
    An OPT without biases that others pretrained on text (Galactica) is made a decoder of the vocabulary of --prepared
    data and its --text_tokenizer: a start for training.
    Image tokenizer: a VQGAN as taming-transformers or Meta's Chameleon saved it (.ckpt, .safetensors), or Hugging
    Face's ChameleonVQVAE; --resolution R where no config beside it says the images' size.
    Retriever: a published CLIP, for instance OpenAI's ViT-B/32: a folder with model.safetensors, config.json, and
    vocab.json and merges.txt (or tokenizer.json), or one of open_clip's with open_clip_config.json.

    --weights names the folder, or a .safetensors file in it."""
    from cm3leon_jax.commands.stage import run_stage
    from cm3leon_jax.interop.importing import recognise
    from cm3leon_jax.runtime.files import file_state, files_below, fingerprint

    # Before anything is written, since there is much that can be wrong with it.
    found = recognise(weights, resolution=resolution, prepared=prepared, text_tokenizer=text_tokenizer)
    # Of a file its own state: what lies beside it, the result perhaps, is not the model's.
    files = [f"{weights}/{file}" for file in files_below(weights)] if os.path.isdir(weights) else [weights]
    run_stage(
        directory,
        "import",
        settings={
            "weights": weights,
            "files": fingerprint([(file, *file_state(file)) for file in files]),
            "kind": found.kind,
            "config": found.config,
            **found.made_with,
        },
        extendable={},
        work=lambda: found.save(f"{directory}/model"),
    )
    print(f"{found.kind} in {directory}/model")
