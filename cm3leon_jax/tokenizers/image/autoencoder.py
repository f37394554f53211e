"""The VQGAN's networks: encoder, decoder, and the two with the codebook between them.

The tree of parameters mirrors taming-transformers': `encoder/down/0/block/1/conv1/kernel`, `quantize/embedding`, ….
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cm3leon_jax.runtime.model_folder import flatten, unflatten
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
from cm3leon_jax.tokenizers.image.layers import (
    AttnBlock,
    Downsample,
    GroupNorm,
    Middle,
    ResBlock,
    Upsample,
    conv,
    fold_patches,
    unfold_patches,
)
from cm3leon_jax.tokenizers.image.quantizer import Quantizer


class Level(nnx.Module):
    """The blocks of one resolution; `downsample` or `upsample` leads to the next."""

    def __init__(
        self, inputs: int, outputs: int, blocks: int, *, attention: bool, resample: str, config, dtype, rngs: nnx.Rngs
    ):
        widths = [inputs] + [outputs] * (blocks - 1)
        make_block = functools.partial(ResBlock, groups=config.norm_groups, dtype=dtype, rngs=rngs)
        self.block = nnx.List([make_block(width, outputs) for width in widths])
        make_attention = functools.partial(AttnBlock, groups=config.norm_groups, dtype=dtype, rngs=rngs)
        self.attn = nnx.List([make_attention(outputs) for _ in range(blocks if attention else 0)])
        if resample == "down":
            self.downsample = Downsample(outputs, dtype=dtype, rngs=rngs)
        elif resample == "up":
            self.upsample = Upsample(outputs, dtype=dtype, rngs=rngs)
        self.resample = resample

    def __call__(self, x: jax.Array) -> jax.Array:
        for index, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        if self.resample == "down":
            return self.downsample(x)
        return self.upsample(x) if self.resample == "up" else x


class Encoder(nnx.Module):
    """Images [B, R, R, 3] in [-1, 1] -> [B, rows, columns, latent_channels]."""

    def __init__(self, config: ImageTokenizerConfig, *, rngs: nnx.Rngs):
        dtype, channels = jnp.dtype(config.dtype), config.level_channels
        self.conv_in = conv(3 * config.patch_size**2, config.channels, dtype=dtype, rngs=rngs)
        levels, inputs = [], config.channels
        for index, (outputs, width) in enumerate(zip(channels, config.level_widths, strict=True)):
            last = index == len(channels) - 1
            attention = width in config.attention_resolutions
            resample = "none" if last else "down"
            make_level = functools.partial(Level, config=config, dtype=dtype, rngs=rngs)
            levels.append(make_level(inputs, outputs, config.num_res_blocks, attention=attention, resample=resample))
            inputs = outputs
        self.down = nnx.List(levels)
        self.mid = Middle(inputs, groups=config.norm_groups, dtype=dtype, rngs=rngs)
        self.norm_out = GroupNorm(inputs, config.norm_groups)
        self.conv_out = conv(inputs, config.latent_channels, dtype=dtype, rngs=rngs)
        self.patch_size = config.patch_size

    def __call__(self, images: jax.Array) -> jax.Array:
        x = self.conv_in(fold_patches(images, self.patch_size))
        for index, level in enumerate(self.down):
            with jax.named_scope(f"down_{index}"):
                x = level(x)
        with jax.named_scope("mid"):
            x = self.mid(x)
        return self.conv_out(jax.nn.swish(self.norm_out(x)))


class Decoder(nnx.Module):
    """[B, rows, columns, latent_channels] -> images [B, R, R, 3], float32, around [-1, 1]."""

    def __init__(self, config: ImageTokenizerConfig, *, rngs: nnx.Rngs):
        dtype, channels = jnp.dtype(config.dtype), config.level_channels
        inputs = channels[-1]
        self.conv_in = conv(config.latent_channels, inputs, dtype=dtype, rngs=rngs)
        self.mid = Middle(inputs, groups=config.norm_groups, dtype=dtype, rngs=rngs)
        levels = []
        for index in reversed(range(len(channels))):
            attention = config.level_widths[index] in config.attention_resolutions
            resample = "up" if index else "none"
            make_level = functools.partial(Level, config=config, dtype=dtype, rngs=rngs)
            blocks = config.num_res_blocks + 1
            levels.append(make_level(inputs, channels[index], blocks, attention=attention, resample=resample))
            inputs = channels[index]
        # As in taming-transformers, a level's number says its resolution (0: the highest), not its turn.
        self.up = nnx.List(levels[::-1])
        self.norm_out = GroupNorm(inputs, config.norm_groups)
        self.conv_out = conv(inputs, 3 * config.patch_size**2, dtype=dtype, rngs=rngs)
        self.patch_size = config.patch_size

    def features(self, latents: jax.Array) -> jax.Array:
        """Everything before the last layer, whose gradient VQGAN's adaptive weight needs by itself."""
        x = self.conv_in(latents)
        with jax.named_scope("mid"):
            x = self.mid(x)
        for index in reversed(range(len(self.up))):
            with jax.named_scope(f"up_{index}"):
                x = self.up[index](x)
        return jax.nn.swish(self.norm_out(x))

    def last_layer(self, features: jax.Array) -> jax.Array:
        return unfold_patches(self.conv_out(features).astype(jnp.float32), self.patch_size)

    def __call__(self, latents: jax.Array) -> jax.Array:
        return self.last_layer(self.features(latents))


class VQGAN(nnx.Module):
    """Encoder, 1x1 convolution, codebook, 1x1 convolution, decoder."""

    def __init__(self, config: ImageTokenizerConfig, *, rngs: nnx.Rngs):
        pointwise = functools.partial(conv, kernel=1, dtype=jnp.dtype(config.dtype), rngs=rngs)
        self.encoder = Encoder(config, rngs=rngs)
        self.quant_conv = pointwise(config.latent_channels, config.code_dim)
        self.quantize = Quantizer(config.num_codes, config.code_dim)
        self.post_quant_conv = pointwise(config.code_dim, config.latent_channels)
        self.decoder = Decoder(config, rngs=rngs)

    def latents(self, images: jax.Array) -> jax.Array:
        """[B, R, R, 3] in [-1, 1] -> what is quantised, float32 [B, rows, columns, code_dim]."""
        return self.quant_conv(self.encoder(images)).astype(jnp.float32)

    def encode(self, images: jax.Array) -> jax.Array:
        """[B, R, R, 3] in [-1, 1] -> codes, int32 [B, rows * columns], row by row."""
        return self.quantize.codes(self.latents(images)).reshape(len(images), -1)

    def decode(self, vectors: jax.Array) -> jax.Array:
        """Code vectors [B, rows, columns, code_dim] -> [B, R, R, 3] around [-1, 1]."""
        return self.decoder(self.post_quant_conv(vectors))


@functools.cache
def _graph(config: ImageTokenizerConfig) -> tuple[nnx.GraphDef, nnx.State]:
    """The module's structure, and its parameters as shapes, without computing anything."""
    return nnx.split(nnx.eval_shape(lambda: VQGAN(config, rngs=nnx.Rngs(0))))


def abstract_params(config: ImageTokenizerConfig) -> dict:
    """The parameters as shapes: nested dict (string keys) of `jax.ShapeDtypeStruct`s."""
    return string_keys(nnx.to_pure_dict(_graph(config)[1]))


def init_params(config: ImageTokenizerConfig, seed: int) -> dict:
    """Fresh parameters, float32 numpy arrays in the tree of `abstract_params`."""
    return draw_params(abstract_params(config), seed)


def draw_params(abstract: dict, seed: int) -> dict:
    """LeCun normal kernels, zero at the end of residual branches; zero biases, unit scales, VQGAN's uniform codebook.

    Drawn by numpy: compiling JAX's generators for this many shapes takes longer than a small model's first minute.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, np.ndarray] = {}
    for path, leaf in sorted(flatten(abstract).items()):
        name = path.rpartition("/")[2]
        if path.endswith(("conv2/kernel", "proj_out/kernel")):
            values = np.zeros(leaf.shape)  # a fresh network is its short path, which learns at once
        elif name == "kernel":
            values = rng.standard_normal(leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))
        elif name == "embedding":
            values = rng.uniform(-1, 1, leaf.shape) / leaf.shape[0]
        else:
            values = np.full(leaf.shape, 1.0 if name == "scale" else 0.0)
        drawn[path] = values.astype(np.float32)
    return unflatten(drawn)


def bind(config: ImageTokenizerConfig, params: dict) -> VQGAN:
    """The module with these parameters."""
    return merge(*_graph(config), params)


def merge(graph: nnx.GraphDef, state: nnx.State, params: dict) -> Any:
    """A module from `nnx.split` of an abstract one and its parameters as plain nested dicts (what crosses `jax.jit`
    and goes to disk)."""
    state = jax.tree.map(lambda leaf: leaf, state)  # `replace_by_pure_dict` writes into what it is given
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def string_keys(tree: Any) -> Any:
    """Lists of modules have whole numbers as keys, which neither JSON nor safetensors can hold."""
    return {str(key): string_keys(value) for key, value in tree.items()} if isinstance(tree, dict) else tree
