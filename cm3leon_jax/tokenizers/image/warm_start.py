"""A start for tokenizers that are trained in minutes: the best linear autoencoder of patches, with its codes.

A VQGAN of one level (`patch_size` pixels folded into channels) without norms, whose residual branches are zero, is a
linear map of each patch, if the non-linearities before its last layers cancel: swish(x) - swish(-x) = x. So the network
can begin as the principal components of the patches (Baldi and Hornik 1989: the optimum of linear autoencoders) with a
codebook by k-means, and learns from there what a patch alone does not tell.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.model_folder import flatten, unflatten
from cm3leon_jax.tokenizers.image import quantizer
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig

MAX_PATCHES = 16_384  # different ones, for components and codes alike
_RESIDUAL_ENDS = ("/conv2/kernel", "/proj_out/kernel")


def check(config: ImageTokenizerConfig) -> None:
    """`UserError` where the architecture cannot begin as a linear map of patches."""
    latent = config.latent_channels
    if len(config.channel_multipliers) > 1 or config.norm_groups or config.code_dim != latent:
        raise UserError("start = 'patches' needs one level, norm_groups = 0 and code_dim = latent_channels")
    if config.level_channels[0] < 2 * latent:
        raise UserError(f"start = 'patches' needs at least {2 * latent} channels, twice latent_channels")


def warm_started(
    params: dict, config: ImageTokenizerConfig, images: np.ndarray, seed: int
) -> tuple[dict, quantizer.Usage]:
    """Random parameters and images uint8 [N, R, R, 3] -> parameters that reconstruct these images' patches, and the
    codes' usage as if all were used evenly."""
    patches = _distinct_patches(images, config.patch_size, seed)
    mean = patches.mean(axis=0)
    components, scale = _principal_components(patches - mean, config.latent_channels)
    flat = {name: np.array(value) for name, value in flatten(params).items()}
    for name in flat:
        if name.endswith(_RESIDUAL_ENDS):
            flat[name][:] = 0
    both = _pairs(config.latent_channels, config.level_channels[0])
    whitened, identity = components / scale, np.eye(config.latent_channels)
    _set_linear(flat, "encoder/conv_in", whitened.T @ both.T, -(mean @ whitened.T) @ both.T)
    _set_linear(flat, "encoder/conv_out", both)
    _set_linear(flat, "quant_conv", identity)
    _set_linear(flat, "post_quant_conv", identity)
    _set_linear(flat, "decoder/conv_in", both.T)
    _set_linear(flat, "decoder/conv_out", both @ components * scale, mean)
    latents = jnp.asarray((patches - mean) @ whitened.T, jnp.float32)
    codebook, _ = jax.jit(quantizer.initial_codes, static_argnums=1)(latents, config.num_codes, jax.random.key(seed))
    flat["quantize/embedding"] = np.asarray(codebook)
    counts = np.ones(config.num_codes, np.float32)
    return unflatten(flat), quantizer.Usage(counts, counts[:, None] * flat["quantize/embedding"])


def _distinct_patches(images: np.ndarray, size: int, seed: int) -> np.ndarray:
    """-> float32 [M, 3 size²] in [-1, 1], each once, in the order of channels of `layers.fold_patches`."""
    count, resolution = images.shape[:2]
    cells = resolution // size
    patches = images.reshape(count, cells, size, cells, size, 3).transpose(0, 1, 3, 2, 4, 5)
    distinct = np.unique(patches.reshape(-1, 3 * size * size), axis=0)
    if len(distinct) > MAX_PATCHES:
        distinct = np.random.default_rng(seed).choice(distinct, MAX_PATCHES, replace=False)
    return distinct.astype(np.float32) / 127.5 - 1


def _principal_components(centred: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """-> (the first components, rows [count, features], and the root mean square of the coordinates along them)."""
    _, vectors = np.linalg.eigh(centred.T @ centred)
    components = vectors[:, ::-1][:, :count].T
    return components, float(np.sqrt(np.mean((centred @ components.T) ** 2)))


def _pairs(latent: int, channels: int) -> np.ndarray:
    """[channels, latent]: each coordinate with both signs, so that swish(x) - swish(-x) gives it back."""
    identity = np.eye(latent)
    return np.concatenate([identity, -identity, np.zeros((channels - 2 * latent, latent))])


def _set_linear(flat: dict, name: str, matrix: np.ndarray, bias: np.ndarray | float = 0.0) -> None:
    """Makes a convolution the map x -> x @ matrix + bias at each position by itself."""
    kernel = flat[f"{name}/kernel"]
    kernel[:] = 0
    middle = kernel.shape[0] // 2
    kernel[middle, middle] = matrix
    flat[f"{name}/bias"][:] = bias
