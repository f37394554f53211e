"""CLIP's two encoders as Flax NNX modules, and their parameters as plain nested dicts.

The modules say what is computed and which parameters there are; `init_params` fills these, `bind` puts them in.
Layers are stacked: a block's parameters have a leading axis [layers]. Shape letters: B batch, T tokens or patches,
W width, D embedding dimension.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cm3leon_jax.retrieval.clip.config import ClipConfig
from cm3leon_jax.runtime.model_folder import flatten, unflatten


def quick_gelu(x: jax.Array) -> jax.Array:
    """OpenAI's approximation of GELU, which the published weights were trained with."""
    return x * jax.nn.sigmoid(1.702 * x)


_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


class Block(nnx.Module):
    """Pre-LayerNorm transformer block with biases."""

    def __init__(self, width: int, heads: int, config: ClipConfig, *, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.dtype)

        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, dtype=dtype, rngs=rngs)

        self.heads = heads
        self.activation = config.activation
        self.norm1 = layer_norm(width, dtype, rngs)
        self.query = linear(width, width)
        self.key = linear(width, width)
        self.value = linear(width, width)
        self.output = linear(width, width)
        self.norm2 = layer_norm(width, dtype, rngs)
        self.expand = linear(width, config.mlp_ratio * width)
        self.contract = linear(config.mlp_ratio * width, width)

    def __call__(self, x_BxTxW: jax.Array, *, causal: bool) -> jax.Array:
        with jax.named_scope("attention"):
            y = self.norm1(x_BxTxW)
            shape = (*y.shape[:2], self.heads, -1)
            q, k, v = (part(y).reshape(shape) for part in (self.query, self.key, self.value))
            y = jax.nn.dot_product_attention(q, k, v, is_causal=causal)
            x_BxTxW = x_BxTxW + self.output(y.reshape(x_BxTxW.shape))
        with jax.named_scope("mlp"):
            hidden = _ACTIVATIONS[self.activation](self.expand(self.norm2(x_BxTxW)))
            return x_BxTxW + self.contract(hidden)


class Stack(nnx.Module):
    """`layers` blocks with stacked parameters, run by a scan."""

    def __init__(self, width: int, heads: int, layers: int, config: ClipConfig, *, rngs: nnx.Rngs):
        @nnx.split_rngs(splits=layers)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def stacked(rngs: nnx.Rngs) -> Block:
            return Block(width, heads, config, rngs=rngs)

        self.blocks = stacked(rngs)

    def __call__(self, x_BxTxW: jax.Array, *, causal: bool) -> jax.Array:
        graph, state = nnx.split(self.blocks)
        x_BxTxW, _ = jax.lax.scan(lambda x, layer: (nnx.merge(graph, layer)(x, causal=causal), None), x_BxTxW, state)
        return x_BxTxW


class TextEncoder(nnx.Module):
    """A causal transformer; the output at the last token, the eos, is the text's embedding."""

    def __init__(self, config: ClipConfig, *, rngs: nnx.Rngs):
        width, dtype = config.text_width, jnp.dtype(config.dtype)
        self.tokens = nnx.Param(jnp.zeros((config.vocab_size, width)))
        self.positions = nnx.Param(jnp.zeros((config.context_length, width)))
        self.stack = Stack(width, config.text_heads, config.text_layers, config, rngs=rngs)
        self.norm = layer_norm(width, dtype, rngs)
        self.projection = projection(width, config.embedding_dim, rngs)
        self.dtype = dtype

    def __call__(self, tokens_BxT: jax.Array, lengths_B: jax.Array) -> jax.Array:
        """Right-padded ids [B, T] with `lengths_B` tokens each, eos included -> float32 [B, D], not normalised."""
        with jax.named_scope("text_encoder"):
            x = (self.tokens[tokens_BxT] + self.positions[: tokens_BxT.shape[1]]).astype(self.dtype)
            x = self.stack(x, causal=True)
            # Attention is causal, so what stands behind the eos cannot reach it and needs no mask.
            last_BxW = jnp.take_along_axis(x, (lengths_B - 1)[:, None, None], axis=1)[:, 0]
            return self.projection(self.norm(last_BxW).astype(jnp.float32))


class ImageEncoder(nnx.Module):
    """A vision transformer; the output at the class token is the image's embedding."""

    def __init__(self, config: ClipConfig, *, rngs: nnx.Rngs):
        width, dtype = config.image_width, jnp.dtype(config.dtype)
        self.config = config
        self.patches = nnx.Linear(3 * config.patch_size**2, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.class_token = nnx.Param(jnp.zeros(width))
        self.positions = nnx.Param(jnp.zeros((config.num_patches + 1, width)))
        self.norm_in = layer_norm(width, dtype, rngs)
        self.stack = Stack(width, config.image_heads, config.image_layers, config, rngs=rngs)
        self.norm = layer_norm(width, dtype, rngs)
        self.projection = projection(width, config.embedding_dim, rngs)
        self.dtype = dtype

    def __call__(self, images_BxRxRx3: jax.Array, kept_BxT: jax.Array | None = None) -> jax.Array:
        """uint8 images at the encoder's resolution -> float32 [B, D], not normalised.

        `kept_BxT` names the patches to look at (row by row from the top left); None: all of them.
        """
        with jax.named_scope("image_encoder"):
            mean, std = jnp.asarray(self.config.image_mean), jnp.asarray(self.config.image_std)
            pixels = (images_BxRxRx3.astype(jnp.float32) / 255 - mean) / std
            x = self.patches(split_patches(pixels, self.config.patch_size).astype(self.dtype)) + self.positions[1:]
            if kept_BxT is not None:
                x = jnp.take_along_axis(x, kept_BxT[:, :, None], axis=1)
            first = jnp.broadcast_to(self.class_token + self.positions[0], (len(x), 1, x.shape[-1]))
            x = self.norm_in(jnp.concatenate([first, x], axis=1)).astype(self.dtype)
            x = self.stack(x, causal=False)
            return self.projection(self.norm(x[:, 0]).astype(jnp.float32))


class Clip(nnx.Module):
    """Both encoders and the learned logarithm of the inverse temperature."""

    def __init__(self, config: ClipConfig, *, rngs: nnx.Rngs):
        self.text = TextEncoder(config, rngs=rngs)
        self.image = ImageEncoder(config, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.zeros(()))


def layer_norm(width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=1e-5, dtype=dtype, use_fast_variance=False, rngs=rngs)


def projection(width: int, dim: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(width, dim, use_bias=False, dtype=jnp.float32, rngs=rngs)


def split_patches(images_BxRxRx3: jax.Array, size: int) -> jax.Array:
    """-> [B, patches, size * size * 3]; pixels of a patch row by row, the channels innermost."""
    batch, side = images_BxRxRx3.shape[0], images_BxRxRx3.shape[1] // size
    x = images_BxRxRx3.reshape(batch, side, size, side, size, 3)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, side * side, size * size * 3)


def abstract_params(config: ClipConfig) -> dict:
    """Shapes and types of the parameters: a nested dict of `ShapeDtypeStruct`s."""
    return nnx.to_pure_dict(_skeleton(config)[1])


def init_params(config: ClipConfig, seed: int) -> dict:
    """Fresh parameters as OpenAI's CLIP has them: a nested dict of float32 numpy arrays.

    Drawn on the host: to compile forty small random generators takes longer than to run them.
    """
    shapes = flatten(abstract_params(config))
    random = np.random.default_rng(seed)
    return unflatten({path: _init_leaf(path, leaf.shape, config, random) for path, leaf in shapes.items()})


def _init_leaf(path: str, shape: tuple[int, ...], config: ClipConfig, random: np.random.Generator) -> np.ndarray:
    name = path.removesuffix("/kernel").rsplit("/", 1)[-1]
    if name == "logit_scale":
        return np.float32(math.log(1 / 0.07)) * np.ones(shape, np.float32)
    if name in ("bias", "scale"):
        return np.full(shape, name == "scale", np.float32)
    is_text = path.startswith("text/")
    width, layers = (config.text_width, config.text_layers) if is_text else (config.image_width, config.image_layers)
    if is_text and name in ("tokens", "positions"):
        std = 0.02 if name == "tokens" else 0.01
    elif name == "patches":
        std = (3 * config.patch_size**2) ** -0.5
    elif name == "expand":
        std = (2 * width) ** -0.5
    else:
        # What is added to the residual stream shrinks with the depth.
        std = width**-0.5 * ((2 * layers) ** -0.5 if name in ("output", "contract") else 1)
    return np.float32(std) * random.standard_normal(shape, np.float32)


def bind(params: dict, config: ClipConfig) -> Clip:
    """The model with these parameters; for use inside a compiled function."""
    graph, state = _skeleton(config)
    state = jax.tree.map(lambda leaf: leaf, state)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


@functools.cache
def _skeleton(config: ClipConfig) -> tuple:
    return nnx.split(nnx.eval_shape(lambda: Clip(config, rngs=nnx.Rngs(0))), nnx.Param)
