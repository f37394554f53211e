"""Which published tensor is which of our parameters. taming-transformers, Meta's Chameleon and Hugging Face's
`ChameleonVQVAE` name them alike; a larger model's file puts a prefix before all of them, such as `model.vqmodel.`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cm3leon_jax.runtime.errors import UserError

# What every VQGAN's file holds, and what gives away a prefix.
_SIGNS = ("encoder.conv_in.weight", "quantize.embedding.weight")
# What only training needs: the loss with its discriminator, and moving averages.
_OTHERS = ("loss.", "model_ema.", "quantize.embedding.cluster_size", "quantize.embedding.embed_avg")


def recognises(names: Iterable[str]) -> bool:
    """Whether a file with tensors of these names holds a VQGAN that `load_published` may import."""
    return bool(_prefixes(names))


def find_prefix(names: Iterable[str]) -> str:
    """What stands before all names of the VQGAN's tensors, "" where nothing does. `UserError` unless there is one."""
    names = set(names)
    prefixes = _prefixes(names)
    if len(prefixes) == 1:
        return prefixes[0]
    if prefixes:
        raise UserError(f"the weights hold {len(prefixes)} VQGANs ({prefixes[0]!r}, {prefixes[1]!r}, …); save one")
    raise UserError(
        "the weights are not those of a VQGAN in taming-transformers' or Hugging Face's names (they begin with "
        f"{', '.join(sorted(names)[:3]) or 'nothing'}); name those of one, say Chameleon's vqgan.ckpt"
    )


def wanted(names: Iterable[str], prefix: str) -> list[str]:
    """Those of `names` that are the VQGAN's, but for what only training needs."""
    return [name for name in names if name.startswith(prefix) and not name.removeprefix(prefix).startswith(_OTHERS)]


def published_name(path: str) -> str:
    """`encoder/down/0/block/1/conv1/kernel` -> `encoder.down.0.block.1.conv1.weight`."""
    module, _, parameter = path.replace("/", ".").rpartition(".")
    if parameter == "embedding":
        return f"{module}.embedding.weight"
    return f"{module}.{'bias' if parameter == 'bias' else 'weight'}"


def as_published(parameter: np.ndarray) -> np.ndarray:
    """Convolutions [height, width, inputs, outputs] -> [outputs, inputs, height, width]; the rest as it is."""
    return parameter.transpose(3, 2, 0, 1) if parameter.ndim == 4 else parameter


def as_ours(tensor: np.ndarray) -> np.ndarray:
    """The inverse of `as_published`."""
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor


def _prefixes(names: Iterable[str]) -> list[str]:
    names = set(names)
    ends = (name.removesuffix(_SIGNS[0]) for name in names if name.endswith(_SIGNS[0]))
    return sorted(prefix for prefix in ends if prefix + _SIGNS[1] in names)
