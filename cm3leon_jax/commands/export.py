"""`cm3leon export`."""

from __future__ import annotations


def export(
    decoder: str,
    directory: str,
    format: str = "huggingface",
    text_tokenizer: str = "",
    image_tokenizer: str = "",
    dtype: str = "float32",
    shard_gb: float = 5.0,
) -> None:
    """Writes the DECODER (RUN/model) for other software, into a new folder DIRECTORY.

    --format huggingface: `OPTForCausalLM.from_pretrained(DIRECTORY)`; with --text_tokenizer also
    `AutoTokenizer`, with --image_tokenizer also `ChameleonVQVAE.from_pretrained(DIRECTORY/image_tokenizer)`.
    --format orbax: the parameters as an Orbax checkpoint, for any mesh.
    --dtype bfloat16 halves the files. See docs/checkpoints.md."""
    from cm3leon_jax.interop.export import EXPORTERS, Parts
    from cm3leon_jax.runtime.errors import UserError

    if format not in EXPORTERS:
        raise UserError(f"unknown --format {format!r}; choose one of {', '.join(EXPORTERS)}")
    if shard_gb <= 0:
        raise UserError(f"--shard_gb is {shard_gb}; it must be above 0")
    parts = Parts.open(decoder, text_tokenizer, image_tokenizer)
    for line in EXPORTERS[format](parts, directory, dtype=dtype, shard_bytes=int(shard_gb * 10**9)):
        print(line)
