"""The dtype of activations and matrix products where a config says "auto". It is chosen here alone."""

from __future__ import annotations

import enum

from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.runtime.processor import processor

AUTO = "auto"
COMPUTE_DTYPES = ("bfloat16", "float32")


class Use(enum.Enum):
    """What is computed."""

    DECODER_TRAINING = enum.auto()
    ENCODER_TRAINING = enum.auto()  # of the image tokenizer and the retriever
    SAMPLING = enum.auto()


def check_compute_dtype(config: object) -> None:
    """UserError where `config.compute_dtype` is none of the choices."""
    asked = getattr(config, "compute_dtype", None)
    if asked not in (AUTO, *COMPUTE_DTYPES):
        choices = ", ".join((AUTO, *COMPUTE_DTYPES))
        raise UserError(f"{type(config).__name__}.compute_dtype is {asked!r}; choose one of {choices}")


def fastest(use: Use, platform: str) -> str:
    """The faster dtype for a use on a platform, "cpu", "gpu" or "tpu".

    Measured on two cores: without bfloat16 instructions (AVX2) the demo's decoder trains on 8,000 tokens/s in bfloat16
    and on 11,300 in float32; with them (AVX512-BF16) on 22,900 and 17,500. The image tokenizer and the retriever, whose
    operands XLA converts, are slower in bfloat16 even there (4.1 and 6.3 steps/s, 2.9 and 3.7). Sampling reads all
    weights for each token, half as many bytes in bfloat16: a decoder of width 512 samples 166 and 130 image tokens/s
    with AVX2.
    """
    if platform != "cpu" or use is Use.SAMPLING:
        return "bfloat16"
    native = use is Use.DECODER_TRAINING and processor().native_bfloat16
    return "bfloat16" if native else "float32"


def training_dtype(asked: str, use: Use, *, directory: Path, part: str, label: str) -> str:
    """The compute dtype of a training run, printed once. All processes call it.

    `directory` has its checkpoints, whose config has the model's own in `part`. A run continues in the dtype that its
    last checkpoint records, on whatever machine; only an `asked` other than "auto" changes that.
    """
    recorded = _recorded(directory, part)
    dtype, reason = hosts.tell(lambda: _chosen(asked, use, recorded))  # hosts may have different processors
    if hosts.is_first():
        print(f"{label}: computes in {dtype}, {reason}", flush=True)
    return dtype


def _chosen(asked: str, use: Use, recorded: str | None) -> tuple[str, str]:
    """-> (dtype, reason)."""
    import jax

    if asked != AUTO:
        changed = recorded and recorded != asked
        return asked, f"as compute_dtype asks{f'; its last checkpoint was trained in {recorded}' if changed else ''}"
    if recorded:
        return recorded, "as its last checkpoint records"
    platform = jax.default_backend()
    where = f"a {platform.upper()}"
    if platform == "cpu" and use is Use.DECODER_TRAINING:
        where = f"a processor {'with' if processor().native_bfloat16 else 'without'} bfloat16 instructions"
    return fastest(use, platform), f"which is faster on {where}"


def _recorded(directory: Path, part: str) -> str | None:
    """What the last checkpoint was trained in, if there is one."""
    from cm3leon_jax.runtime.checkpoints import Checkpoints
    from cm3leon_jax.runtime.restart import resumed_config

    with Checkpoints(directory) as checkpoints:
        config = resumed_config(checkpoints)
    return None if config is None else config[part].get("compute_dtype")
