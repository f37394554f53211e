"""The program that draws images as StableHLO (`jax.export`): it runs where JAX is, without this package.

Weights are not inside; they are the program's first argument, by the names in `weights.safetensors`.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import abstract_params
from cm3leon_jax.model.partitioning import Partitioning
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import write_json
from cm3leon_jax.runtime.model_folder import WEIGHTS_FILE, flatten, unflatten
from cm3leon_jax.runtime.tensor_stream import NewTensor, StoredTensor, write_tensors
from cm3leon_jax.sampling.loop import Batch, decode
from cm3leon_jax.sampling.prompts import DRAW, IMAGE
from cm3leon_jax.sampling.rules import MIXED, TWO_STREAMS, SamplingConfig
from cm3leon_jax.sampling.weights import sampling_config, sampling_params
from cm3leon_jax.vocabulary import Vocabulary

PROGRAM_FILE = "sampler.stablehlo"
INPUTS_FILE = "sampler.json"
PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "tpu": "tpu"}  # as `jax.export` calls them -> as JAX calls their devices


@dataclasses.dataclass(frozen=True)
class SamplerShape:
    """What a compiled sampler is fixed to."""

    platform: str = "cpu"  # one of `PLATFORMS`
    batch: int = 4  # images drawn at once
    prompt_tokens: int = 128  # the longest prompt: <eos>, retrieved documents, text, <break>

    def __post_init__(self) -> None:
        if self.platform not in PLATFORMS:
            raise UserError(f"unknown platform {self.platform!r}; choose one of {', '.join(PLATFORMS)}")
        if self.batch < 1 or self.prompt_tokens < 3:
            raise UserError("a sampler draws at least 1 image at once, from prompts of at least 3 tokens")


def write_sampler(
    folder: pathlib.Path,
    config: DecoderConfig,
    vocabulary: Vocabulary,
    stored: dict[str, StoredTensor],
    *,
    image_tokens: int,
    sampling: SamplingConfig,
    shape: SamplerShape,
) -> None:
    """Writes the program, the weights and a description of its inputs into an existing folder. Raises `UserError`."""
    if sampling.rule == MIXED:
        raise UserError("a compiled sampler has one rule; choose one with --gin.SamplingConfig.rule=…")
    # All of the prompt may be the query's text, which begins at `query_position`, and an image may begin at the next
    # multiple of the stride.
    longest = config.query_position + shape.prompt_tokens + max(config.position_stride - 1, 0)
    if longest + image_tokens > config.max_length:
        raise UserError(
            f"prompts of {shape.prompt_tokens} tokens and images of {image_tokens} can take {longest + image_tokens} "
            f"positions, more than the decoder's {config.max_length}; lower --prompt_tokens"
        )
    sampler = functools.partial(
        draw_images,
        config=config,
        vocabulary=vocabulary,
        rule=sampling.rule,
        implementation=sampling.implementation,
        image_tokens=image_tokens,
        partitioning=Partitioning(None, compiled_for=PLATFORMS[shape.platform]),
    )
    inputs = sampler_inputs(shape, 2 if sampling.rule in TWO_STREAMS else 1)
    settings = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in sampling.settings()}
    params = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in flatten(abstract_params(config)).items()
    }
    # A kernel for TPUs is a custom call whose form JAX keeps stable; cuDNN's attention is one that it only uses.
    checks = [jax.export.DisabledSafetyCheck.custom_call(name) for name in _CUDNN]
    program = jax.export.export(jax.jit(sampler), platforms=[shape.platform], disabled_checks=checks)(
        params, inputs, settings
    )
    (folder / PROGRAM_FILE).write_bytes(program.serialize())
    float32 = np.dtype(np.float32)
    write_tensors(folder / WEIGHTS_FILE, {n: NewTensor(t.shape, float32, t.chunks) for n, t in stored.items()})
    write_json(
        folder / INPUTS_FILE,
        {
            "platform": shape.platform,
            "arguments": [
                f"the tensors of {WEIGHTS_FILE}, a dict by name",
                {name: [each.dtype.name, list(each.shape)] for name, each in inputs.items()},
                {name: float(value) for name, value in sampling.settings().items()},
            ],
            "results": [f"image codes int32 [{shape.batch}, {image_tokens}]", f"log-probability [{shape.batch}]"],
            "rule": sampling.rule,
        },
    )


_CUDNN = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaScaleBiasSoftmax")


def sampler_inputs(shape: SamplerShape, streams: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of `draw_images`' inputs; `streams` is 2 for rules that read a prompt without the text too."""
    per_token, per_stream = (shape.batch, streams, shape.prompt_tokens), (shape.batch, streams)
    int32 = jnp.int32
    return {
        "tokens": jax.ShapeDtypeStruct(per_token, int32),  # right-padded prompts: with the text, and without
        "positions": jax.ShapeDtypeStruct(per_token, int32),  # of the tokens: 0, 1, 2, … unless cm3leon.json says else
        "lengths": jax.ShapeDtypeStruct(per_stream, int32),  # of the prompts
        "next": jax.ShapeDtypeStruct(per_stream, int32),  # position of the first code: the length, likewise
        "seeds": jax.ShapeDtypeStruct((shape.batch, 3), jnp.uint32),  # a seed, the prompt's own number, the sample's
    }


def draw_images(
    params: dict[str, jax.Array],
    inputs: dict[str, jax.Array],
    settings: dict[str, Any],
    *,
    config: DecoderConfig,
    vocabulary: Vocabulary,
    rule: str,
    implementation: str,
    image_tokens: int,
    partitioning: Partitioning,
) -> tuple[jax.Array, jax.Array]:
    """The sampling loop for whole images -> codes int32 [B, T] and their log-probabilities float32 [B]."""
    config = sampling_config(config, partitioning.platform)
    rows, streams = inputs["lengths"].shape
    batch: Batch = dict(inputs)
    batch["template"] = jnp.full((rows, streams, image_tokens), DRAW, jnp.int32)
    batch["steps"] = jnp.full(rows, image_tokens, jnp.int32)
    batch["settings"] = {name: jnp.broadcast_to(value, (rows, 1)) for name, value in settings.items()}
    ids, logprob = decode(
        sampling_params(unflatten(params), config=config, partitioning=partitioning),
        batch,
        config=config,
        vocabulary=vocabulary,
        draws=IMAGE,
        rule=rule,
        implementation=implementation,
        partitioning=partitioning,
    )
    return ids - vocabulary.image_offset, logprob
