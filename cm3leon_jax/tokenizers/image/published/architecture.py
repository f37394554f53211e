"""The architecture of a VQGAN, read off the shapes of its tensors. Only the resolution does not show in them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig

NORM_GROUPS = 32  # of all published VQGANs; written into their code, and in no config

Shapes = Mapping[str, tuple[int, ...]]


def infer_config(shapes: Shapes, resolution: int) -> ImageTokenizerConfig:
    """The config of tensors with these shapes, [outputs, inputs, height, width], for images of `resolution` pixels.

    Raises `UserError` where a telling tensor is missing or of a shape that no VQGAN has.
    """
    channels, inputs, *_ = _shape(shapes, "encoder.conv_in.weight", axes=4)
    if inputs != 3:
        raise UserError(f"the VQGAN takes images of {inputs} channels; imported are those of 3 (red, green, blue)")
    levels = _count(lambda level: f"encoder.down.{level}.block.0.conv1.weight" in shapes)
    if not levels:
        raise UserError("the weights lack encoder.down.0.block.0.conv1.weight; take all weights of a VQGAN")
    widths = [_shape(shapes, f"encoder.down.{level}.block.0.conv1.weight", axes=4)[0] for level in range(levels)]
    for width in (channels, *widths):
        if width % channels or width % NORM_GROUPS:
            raise UserError(
                f"the VQGAN has levels of {', '.join(map(str, widths))} channels; imported are those whose levels have "
                f"multiples of {channels}, the first convolution's channels, and of {NORM_GROUPS}, the norms' groups"
            )
    blocks = _count(lambda block: f"encoder.down.0.block.{block}.conv1.weight" in shapes)
    for level in range(levels):  # else a few tensors of the first level could ask for a network of very many
        _shape(shapes, f"encoder.down.{level}.block.{blocks - 1}.conv1.weight", axes=4)
    num_codes, code_dim = _shape(shapes, "quantize.embedding.weight", axes=2)
    attention = [level for level in range(levels) if f"encoder.down.{level}.attn.0.q.weight" in shapes]
    return ImageTokenizerConfig(
        resolution=resolution,
        patch_size=1,
        channels=channels,
        channel_multipliers=tuple(width // channels for width in widths),
        num_res_blocks=blocks,
        attention_resolutions=tuple(resolution >> level for level in attention),
        norm_groups=NORM_GROUPS,
        latent_channels=_shape(shapes, "encoder.conv_out.weight", axes=4)[0],
        code_dim=code_dim,
        num_codes=num_codes,
        compute_dtype="float32",
    )


def _shape(shapes: Shapes, name: str, *, axes: int) -> tuple[int, ...]:
    if name not in shapes:
        raise UserError(f"the weights lack {name}; take all weights of a VQGAN")
    if len(shapes[name]) != axes or not all(shapes[name]):
        raise UserError(f"the tensor {name} is of shape {list(shapes[name])} where {axes} axes are due; take a VQGAN's")
    return shapes[name]


def _count(holds: Callable[[int], bool]) -> int:
    """How many of 0, 1, 2, … hold, one after the other."""
    return next(number for number in itertools.count() if not holds(number))
