"""Image tokens' embeddings that start from the image tokenizer's code vectors, so that similar codes start alike.

A decoder is given code numbers, which say nothing of what the codes look like: that one is a red corner and another the
same corner in blue has to be learned from how they are used. The tokenizer knows it already. A random projection of its
vectors keeps what resembles together. Not CM3Leon's, which starts all embeddings alike (§3.1).
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from cm3leon_jax.model.decoder import Params
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary


def with_codebook(
    params: Params, codebook_KxC: np.ndarray, vocabulary: Vocabulary, *, std: float, seed: int, sharding: Any
) -> Params:
    """The parameters with the rows of the image tokens replaced; `sharding` is that of the embedding table.

    Raises `UserError` where the codebook has not as many codes as the vocabulary.
    """
    if len(codebook_KxC) != vocabulary.image_size:
        raise UserError(
            f"the image tokenizer has {len(codebook_KxC)} codes, the vocabulary of the data {vocabulary.image_size}; "
            "use the tokenizer that prepared the data"
        )
    table = params["embedding"]["tokens"]
    rows = projected(codebook_KxC, table.shape[1], std=std, seed=seed)
    start = vocabulary.image_offset
    replace = jax.jit(lambda table, rows: table.at[start : start + len(rows)].set(rows), out_shardings=sharding)
    return params | {"embedding": params["embedding"] | {"tokens": replace(table, rows)}}


def projected(codebook_KxC: np.ndarray, width: int, *, std: float, seed: int) -> np.ndarray:
    """Code vectors -> float32 [K, width] of mean 0 and standard deviation `std`, by a random projection.

    Before it, the principal components are divided by the square root of their deviation: codes differ most in colour,
    and what tells shapes apart must not drown in that.
    """
    centred = np.asarray(codebook_KxC, np.float64)
    left, deviations, _ = np.linalg.svd(centred - centred.mean(0), full_matrices=False)
    components = left * np.sqrt(deviations)
    rows = components @ np.random.default_rng(seed).normal(size=(components.shape[1], width))
    rows -= rows.mean(0)
    return (rows * (std / max(float(rows.std()), 1e-12))).astype(np.float32)
