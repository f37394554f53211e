"""`cm3leon export`."""

from __future__ import annotations

from cm3leon_jax.sampling.rules import SamplingConfig


def export(
    decoder: str,
    directory: str,
    sampling: SamplingConfig,
    format: str = "huggingface",
    text_tokenizer: str = "",
    image_tokenizer: str = "",
    dtype: str = "float32",
    shard_gb: float = 5.0,
    platform: str = "cpu",
    batch: int = 4,
    prompt_tokens: int = 128,
) -> None:
    """Writes the DECODER (RUN/model) for other software, into a new folder DIRECTORY.

    --format huggingface: `OPTForCausalLM.from_pretrained(DIRECTORY)`; with --image_tokenizer also
    `ChameleonVQVAE.from_pretrained(DIRECTORY/image_tokenizer)`.
    --format orbax: the parameters as an Orbax checkpoint, for any mesh.
    --format stablehlo: the program that draws images, for --platform cpu, cuda or tpu and --batch images at once, from
    prompts of at most --prompt_tokens tokens, by --gin.SamplingConfig.rule=…; needs the --image_tokenizer.
    With --text_tokenizer, `AutoTokenizer.from_pretrained(DIRECTORY)` for all three. --dtype bfloat16 halves the weights
    of the first two. See docs/checkpoints.md."""
    from cm3leon_jax.interop.export import EXPORTERS, Form, Parts
    from cm3leon_jax.interop.stablehlo import SamplerShape
    from cm3leon_jax.runtime.errors import UserError

    if format not in EXPORTERS:
        raise UserError(f"unknown --format {format!r}; choose one of {', '.join(EXPORTERS)}")
    form = Form(dtype, int(shard_gb * 10**9), sampling, SamplerShape(platform, batch, prompt_tokens))
    for line in EXPORTERS[format](Parts.open(decoder, text_tokenizer, image_tokenizer), directory, form):
        print(line)
