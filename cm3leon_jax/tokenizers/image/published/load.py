"""A published VQGAN's files -> an image tokenizer, or one line that says what is wrong with them."""

from __future__ import annotations

import numpy as np

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.runtime.model_folder import flatten, unflatten
from cm3leon_jax.tokenizers.image.autoencoder import abstract_params
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
from cm3leon_jax.tokenizers.image.published.architecture import infer_config
from cm3leon_jax.tokenizers.image.published.names import as_ours, find_prefix, published_name, wanted
from cm3leon_jax.tokenizers.image.published.settings import read_settings
from cm3leon_jax.tokenizers.image.published.weights import open_weights
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer

_FLOATS = ("float32", "float16", "bfloat16", "float64")


def load_published(weights: Path, *, resolution: int | None = None) -> ImageTokenizer:
    """The VQGAN in a file of safetensors or of `torch.save`, in shards with an index, or in the folder of one; it may
    be part of a larger model, as in Hugging Face's Chameleon.

    `resolution`: pixels on a side of the images that it is to be used for; None: what the config beside the weights
    says. A VQGAN is convolutional, so another resolution than that of its training gives another number of tokens.
    Raises `UserError`.
    """
    source = open_weights(weights)
    if strange := [name for name in source.names if not name.isprintable()]:
        raise UserError(f"the weights hold a tensor with the name {strange[0]!a}; take those of a VQGAN")
    prefix = find_prefix(source.names)
    names = wanted(source.names, prefix)
    if not any(name.startswith(f"{prefix}decoder.") for name in names):
        raise UserError(
            f"{source.path} lacks the decoder's weights, as Hugging Face's Chameleon does; they are in the original "
            "release, in vqgan.ckpt beside vqgan.yaml: import that file"
        )
    settings = read_settings(source.path)
    if resolution is None:
        if settings is None:
            raise UserError(f"no config beside {source.path} says the VQGAN's resolution; name it (`resolution`)")
        resolution = settings.resolution
    if resolution < 1:
        raise UserError(f"a resolution of {resolution} pixels; name one of 1 or more")
    tensors = {name.removeprefix(prefix): tensor for name, tensor in source.read(names).items()}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    config = infer_config(shapes, resolution)
    if settings:
        settings.check(config)
    return ImageTokenizer(config, params_of(tensors, config))


def params_of(tensors: dict[str, np.ndarray], config: ImageTokenizerConfig) -> dict:
    """Published tensors -> our nested dict, float32. `UserError` unless they are just those of `config`."""
    leaves = flatten(abstract_params(config))
    names = {path: published_name(path) for path in leaves}
    needed = set(names.values())
    for wrong, problem in (
        (needed - tensors.keys(), "lack"),
        (tensors.keys() - needed, "have, beyond what a VQGAN of its sizes has,"),
    ):
        if wrong:
            raise UserError(
                f"the weights {problem} {sorted(wrong)[0]} ({len(wrong)} such tensors); take all weights of a VQGAN "
                "built as taming-transformers builds it"
            )
    return unflatten({path: _parameter(name, tensors[name], leaves[path].shape) for path, name in names.items()})


def _parameter(name: str, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if tensor.dtype.name not in _FLOATS:
        raise UserError(
            f"the tensor {name} is kept as {tensor.dtype.name}; save the weights as float32, float16 or bfloat16"
        )
    parameter = as_ours(tensor)
    if parameter.shape != shape:
        due = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape
        raise UserError(
            f"the tensor {name} is of shape {list(tensor.shape)} where {list(due)} is due by the others; take all "
            "weights of one VQGAN"
        )
    return np.array(parameter, np.float32, order="C")  # a copy: what was read may share memory
