"""The decoder (CM3Leon §3.1): from tokens to hidden states to logits.

The modules of `layers.py` are built abstractly once a config; what crosses `jax.jit` is a plain nested dict of arrays,
which is merged with them inside. The functions here are pure: parameters in, arrays out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from cm3leon_jax.model.attention import causal_attention
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.int8 import Int8
from cm3leon_jax.model.layers import Embedding, Layers, layer_norm
from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning
from cm3leon_jax.model.remat import named, rematerialized
from cm3leon_jax.runtime.compute_dtype import Use

Params = dict[str, Any]  # nested; the leaves are arrays, or whatever a function says that it maps them to


class Decoder(nnx.Module):
    """Holds the parameters. A tree: no references are shared."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.embedding = Embedding(config, rngs)
        self.layers = Layers(config, rngs)


@functools.lru_cache(maxsize=32)
def _abstract(config: DecoderConfig) -> Decoder:
    return nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0)))


def init_params(config: DecoderConfig, key: jax.Array) -> Params:
    """New parameters: a nested dict of float32 arrays. Wrap in `jax.jit` with out_shardings to make them in place."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, nnx.Rngs(params=key))))


def abstract_params(config: DecoderConfig) -> Params:
    """The parameters' tree with `jax.ShapeDtypeStruct` leaves."""
    return nnx.to_pure_dict(nnx.state(_abstract(config)))


def logical_axes(config: DecoderConfig) -> Params:
    """The parameters' tree with tuples of logical axis names as leaves, one name a dimension."""
    is_variable = lambda node: isinstance(node, nnx.Variable)  # noqa: E731
    axes = jax.tree.map(
        lambda node: node.get_metadata()["logical_axes"], nnx.state(_abstract(config)), is_leaf=is_variable
    )
    return nnx.to_pure_dict(axes)


def bind(template: nnx.Module, params: Params) -> Any:
    """A module like `template`, holding the arrays of `params` (a nested dict of the same tree)."""
    graph, state = nnx.split(template)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def embed(
    params: Params,
    tokens_BxL: jax.Array,
    positions_BxL: jax.Array,
    config: DecoderConfig,
    partitioning: Partitioning = UNPARTITIONED,
) -> jax.Array:
    """Token and position embeddings, [B, L, D] in the compute dtype, which is that of all layers."""
    dtype = config.computing_in(Use.DECODER_TRAINING, partitioning.platform).compute_dtype
    with jax.named_scope("embedding"):
        embedding = bind(_abstract(config).embedding, params["embedding"])
        return embedding(tokens_BxL, positions_BxL, dtype, partitioning)


def run_layers(
    params: Params,
    x_BxLxD: jax.Array,
    attend_of_layer: Callable,
    carry: Any,
    *,
    config: DecoderConfig,
    partitioning: Partitioning = UNPARTITIONED,
) -> tuple[jax.Array, Any]:
    """Runs all layers, stacked or in a list, and the final LayerNorm.

    `attend_of_layer(q, k, v, carry, layer) -> (o, carry)` is the attention of layer number `layer` (an int when
    unrolled, an int32 scalar when scanned); `carry` is handed from layer to layer.
    """
    template = _abstract(config).layers

    def one_layer(x: jax.Array, carry: Any, layer: Any, weights: Params) -> tuple[jax.Array, Any]:
        block = bind(template, weights)
        x = named(x, "layer_input")
        x, carry = block(x, lambda q, k, v: attend_of_layer(q, k, v, carry, layer), partitioning)
        return partitioning.constrain(x, "batch", "length", "features"), carry

    if config.stack == "scan":
        body = rematerialized(one_layer, config.remat)
        (x_BxLxD, carry), _ = jax.lax.scan(
            lambda state, xs: (body(*state, *xs), None),
            (x_BxLxD, carry),
            (jnp.arange(config.num_layers), params["layers"]),
        )
    else:
        layers = params["layers"]
        layers = layers if isinstance(layers, list) else unstacked(layers, config.num_layers)
        for layer, weights in enumerate(layers):
            body = rematerialized(functools.partial(one_layer, layer=layer), config.remat)
            x_BxLxD, carry = body(x_BxLxD, carry, weights=weights)
    return layer_norm(x_BxLxD, config.norm_epsilon), carry


def unstacked(stacked: Params, count: int) -> list[Params]:
    """The layers of a stack, one tree each. Split at once, so that the gradient is one concatenation."""
    leaves, structure = jax.tree.flatten(stacked)
    pieces = [[piece[0] for piece in jax.lax.split(leaf, (1,) * count)] for leaf in leaves]
    return [jax.tree.unflatten(structure, layer) for layer in zip(*pieces, strict=True)]


def hidden_states(
    params: Params,
    tokens_BxL: jax.Array,
    *,
    config: DecoderConfig,
    positions_BxL: jax.Array | None = None,
    segments_BxL: jax.Array | None = None,
    partitioning: Partitioning = UNPARTITIONED,
) -> jax.Array:
    """Tokens -> [B, L, D] in the compute dtype, after the final LayerNorm.

    Token t sees the tokens up to t, of its own segment alone where `segments_BxL` (int32; 0 on padding) is given.
    `positions_BxL` defaults to 0 … L-1 in every row.
    """
    if positions_BxL is None:
        positions_BxL = jnp.broadcast_to(jnp.arange(tokens_BxL.shape[1]), tokens_BxL.shape)

    def attend(q, k, v, carry, layer):
        del layer
        return causal_attention(
            q, k, v, segments_BxL, implementation=config.attention, partitioning=partitioning
        ), carry

    x_BxLxD = embed(params, tokens_BxL, positions_BxL, config, partitioning)
    x_BxLxD = partitioning.constrain(x_BxLxD, "batch", "length", "features")
    return run_layers(params, x_BxLxD, attend, None, config=config, partitioning=partitioning)[0]


def logits(params: Params, hidden: jax.Array, *, rows: tuple[int, int] | None = None) -> jax.Array:
    """Hidden states […, D] -> float32 logits […, V]; with `rows=(start, stop)` of those vocabulary ids alone."""
    table_VxD = params["embedding"]["tokens"]
    if rows is not None:
        table_VxD = table_VxD[rows[0] : rows[1]]
    with jax.named_scope("logits"):
        if isinstance(table_VxD, Int8):
            return _products_with_rows(hidden, table_VxD.data) * table_VxD.scales[:, 0]
        return _products_with_rows(hidden, table_VxD)


def _products_with_rows(hidden: jax.Array, table_VxD: jax.Array) -> jax.Array:
    return jnp.einsum("...d,vd->...v", hidden, table_VxD.astype(hidden.dtype), preferred_element_type=jnp.float32)
