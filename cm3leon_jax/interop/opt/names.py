"""Which of OPT's tensors is which of our parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from cm3leon_jax.model.config import DecoderConfig

TOKENS = "embedding/tokens"
POSITIONS = "embedding/positions"
ROWS_BEFORE_POSITIONS = 2  # OPT's table begins with two that it never reads, in place of a padding token's
TIED = "lm_head.weight"  # the embedding once more; files may leave it out
_MATRICES = {
    "self_attn.q_proj": "layers/attention/query",
    "self_attn.k_proj": "layers/attention/key",
    "self_attn.v_proj": "layers/attention/value",
    "self_attn.out_proj": "layers/attention/output",
    "fc1": "layers/feed_forward/up",
    "fc2": "layers/feed_forward/down",
}


class Place(NamedTuple):
    """Our parameter that one of OPT's tensors is, or the layer of it; a layer's matrix is the other way round."""

    parameter: str
    layer: int | None = None


def places(config: DecoderConfig) -> dict[str, Place]:
    """OPT's name of every tensor -> its place, embeddings first, then layer by layer."""
    found = {
        "model.decoder.embed_tokens.weight": Place(TOKENS),
        "model.decoder.embed_positions.weight": Place(POSITIONS),
    }
    for layer in range(config.num_layers):
        for theirs, ours in _MATRICES.items():
            found[f"model.decoder.layers.{layer}.{theirs}.weight"] = Place(ours, layer)
    return found


def opt_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """OPT's name of every tensor -> its shape."""
    d, f = config.d_model, config.d_ffn
    special = {
        TOKENS: (config.vocab_size, d),
        POSITIONS: (config.max_length + ROWS_BEFORE_POSITIONS, d),
        "layers/feed_forward/up": (f, d),
        "layers/feed_forward/down": (d, f),
    }
    return {name: special.get(place.parameter, (d, d)) for name, place in places(config).items()}


def opt_tensors(config: DecoderConfig, parameter: Callable[[str], np.ndarray]) -> Mapping[str, np.ndarray]:
    """All of OPT's tensors from our parameters in memory, by their path ("layers/attention/query")."""
    tensors = {}
    for name, (path, layer) in places(config).items():
        array = np.asarray(parameter(path))
        if path == POSITIONS:
            array = np.pad(array, ((ROWS_BEFORE_POSITIONS, 0), (0, 0)))
        tensors[name] = array if layer is None else array[layer].T
    return tensors
