"""The parts of a decoder as Flax NNX modules. Every parameter is declared here once: shape, logical axes, initialiser.

The layers are declared as a stack: each parameter has a leading axis `layers`, drawn at once. Inside the loop over
layers the same modules hold one layer's slice (`decoder.py`). Letters in names are axes: B batch, L length, D d_model,
H heads, K head_dim, F d_ffn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning, WeightLayout
from cm3leon_jax.model.products import linear, lookup
from cm3leon_jax.model.remat import named

Initializer = Callable[..., jax.Array]


def truncated_normal(std: float) -> Initializer:
    """Mean 0, cut at ±3 `std` (CM3Leon §3.1); `std` is that of the normal before the cut."""
    return nnx.initializers.truncated_normal(std, lower=-3.0, upper=3.0)


def parameter(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], initializer: Initializer) -> nnx.Param:
    """A float32 parameter that knows the logical name of each of its axes."""
    if len(shape) != len(axes):
        raise ValueError(f"{len(shape)} dimensions, {len(axes)} axes: {shape} {axes}")
    return nnx.Param(initializer(rngs.params(), shape, jnp.float32), logical_axes=axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def layer_norm(x: jax.Array, epsilon: float) -> jax.Array:
    """LayerNorm over the last axis without learnable parameters; statistics in float32."""
    return _layer_norm_forward(x, epsilon)[0]


def _layer_norm_forward(x: jax.Array, epsilon: float) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    x32 = x.astype(jnp.float32)
    # A second pass: the mean square less the squared mean would cancel where the mean is large.
    centred = x32 - x32.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
    y = (centred * scale).astype(x.dtype)
    return y, (y, scale)  # what follows needs y for its own gradient: nothing float32 of x's size is kept


def _layer_norm_backward(epsilon: float, residuals: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array]:
    del epsilon
    y, scale = residuals
    y32, dy32 = y.astype(jnp.float32), dy.astype(jnp.float32)
    dx = dy32 - dy32.mean(-1, keepdims=True) - y32 * (dy32 * y32).mean(-1, keepdims=True)
    return ((dx * scale).astype(y.dtype),)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, x Φ(x), in float32 inside."""
    x32 = x.astype(jnp.float32)
    return (x32 * _normal_cdf(x32)).astype(x.dtype)


def _gelu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gelu(x), x


def _gelu_backward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    # Behind a barrier: XLA would find Φ(x) of the forward pass again, and keep it in float32 until now.
    x32 = jax.lax.optimization_barrier(x).astype(jnp.float32)
    density = jnp.exp(-0.5 * jnp.square(x32)) * (2 * jnp.pi) ** -0.5
    slope = _normal_cdf(x32) + x32 * density
    return ((slope * dy.astype(jnp.float32)).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)


def _normal_cdf(x: jax.Array) -> jax.Array:
    return 0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5)


class Embedding(nnx.Module):
    """Token embedding, which is the output projection too (tied, not scaled), and learned absolute positions."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        d = config.d_model
        self.tokens = parameter(rngs, (config.vocab_size, d), ("vocab", "embed"), truncated_normal(config.init_std))
        self.positions = parameter(
            rngs, (config.max_length, d), ("position", "embed"), truncated_normal(config.position_init_std)
        )

    def __call__(
        self, tokens_BxL: jax.Array, positions_BxL: jax.Array, dtype: Any, partitioning: Partitioning = UNPARTITIONED
    ) -> jax.Array:
        tokens_BxLxD = lookup(self.tokens[...], tokens_BxL, dtype, WeightLayout(partitioning, ("vocab", "embed")))
        layout = WeightLayout(partitioning, ("position", "embed"))
        return tokens_BxLxD + lookup(self.positions[...], positions_BxL, dtype, layout)


class Attention(nnx.Module):
    """The four projections of multi-head attention. What happens between them is the caller's `attend`."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.config = config
        n, d = config.num_layers, config.d_model
        initializer = truncated_normal(config.init_std)
        self.query = parameter(rngs, (n, d, d), ("layers", "embed", "heads"), initializer)
        self.key = parameter(rngs, (n, d, d), ("layers", "embed", "heads"), initializer)
        self.value = parameter(rngs, (n, d, d), ("layers", "embed", "heads"), initializer)
        self.output = parameter(rngs, (n, d, d), ("layers", "heads", "embed"), nnx.initializers.zeros)

    def __call__(self, y_BxLxD: jax.Array, attend: Callable, partitioning: Partitioning) -> tuple[jax.Array, Any]:
        """`attend(q, k, v)`, each [B, L, H, K], gives the mixed values of that shape and whatever else it likes."""
        config = self.config
        heads = (config.num_heads, config.head_dim)
        inward = WeightLayout(partitioning, ("embed", "heads", None))
        outward = WeightLayout(partitioning, ("heads", None, "embed"))
        scale = config.head_dim**-0.5  # of the queries: on them or on their weights, whichever are fewer
        scaled_weights = not config.qk_norm and y_BxLxD.size >= config.d_model**2
        query = self.query[...] * scale if scaled_weights else self.query[...]
        # As products over [D, H, K], whose results the attention kernels take without another copy.
        q_BxLxHxK, k_BxLxHxK, v_BxLxHxK = (
            named(linear(y_BxLxD, weight.reshape(config.d_model, *heads), 1, inward), name)
            for name, weight in (("query", query), ("key", self.key[...]), ("value", self.value[...]))
        )
        if config.qk_norm:
            q_BxLxHxK, k_BxLxHxK = (layer_norm(x, config.norm_epsilon) for x in (q_BxLxHxK, k_BxLxHxK))
        if not scaled_weights:
            q_BxLxHxK = q_BxLxHxK * jnp.asarray(scale, q_BxLxHxK.dtype)
        o_BxLxHxK, extra = attend(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK)
        output_HxKxD = self.output[...].reshape(*heads, config.d_model)
        return linear(o_BxLxHxK, output_HxKxD, 2, outward), extra


class FeedForward(nnx.Module):
    """d_model -> 4 d_model -> d_model."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.config = config
        n, d, f = config.num_layers, config.d_model, config.d_ffn
        self.up = parameter(rngs, (n, d, f), ("layers", "embed", "ffn"), truncated_normal(config.init_std))
        self.down = parameter(rngs, (n, f, d), ("layers", "ffn", "embed"), nnx.initializers.zeros)

    def __call__(self, y_BxLxD: jax.Array, partitioning: Partitioning) -> jax.Array:
        h_BxLxF = linear(y_BxLxD, self.up[...], 1, WeightLayout(partitioning, ("embed", "ffn")))
        h_BxLxF = named(h_BxLxF, "up")
        h_BxLxF = jax.nn.relu(h_BxLxF) if self.config.activation == "relu" else gelu(h_BxLxF)
        return linear(h_BxLxF, self.down[...], 1, WeightLayout(partitioning, ("ffn", "embed")))


class Layers(nnx.Module):
    """The stack of layers; with the leading axis sliced away, one layer."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.config = config
        self.attention = Attention(config, rngs)
        self.feed_forward = FeedForward(config, rngs)

    def __call__(
        self, x_BxLxD: jax.Array, attend: Callable, partitioning: Partitioning = UNPARTITIONED
    ) -> tuple[jax.Array, Any]:
        """One layer: [B, L, D] -> ([B, L, D], what `attend` gave besides)."""
        epsilon = self.config.norm_epsilon
        with jax.named_scope("attention"):
            y_BxLxD, extra = self.attention(layer_norm(x_BxLxD, epsilon), attend, partitioning)
            x_BxLxD = named(x_BxLxD + y_BxLxD, "residual")
        with jax.named_scope("feed_forward"):
            x_BxLxD = x_BxLxD + self.feed_forward(layer_norm(x_BxLxD, epsilon), partitioning)
        return x_BxLxD, extra
