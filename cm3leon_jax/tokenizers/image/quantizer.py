"""The codebook: nearest code, straight-through gradient, usage, moving averages, k-means start, revival of dead codes.

What a tokenizer needs is the codes' vectors alone; how often codes are used is kept beside them while training.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cm3leon_jax.tokenizers.image.config import ImageTokenizerTraining

KMEANS_ITERATIONS = 4


class Usage(NamedTuple):
    """Moving averages over steps: how often each code was nearest, and the sum of the latents it was nearest to."""

    counts: Any  # [K]
    sums: Any  # [K, D]


class Quantizer(nnx.Module):
    """A table of code vectors, [K, D], float32."""

    def __init__(self, num_codes: int, code_dim: int):
        self.embedding = nnx.Param(jnp.zeros((num_codes, code_dim)))

    def codes(self, latents: jax.Array) -> jax.Array:
        """[..., D] -> the nearest code's number, int32 [...]."""
        return nearest_codes(latents, self.embedding[...])

    def vectors(self, codes: jax.Array) -> jax.Array:
        """[...] -> [..., D]."""
        return self.embedding[...][codes]


def nearest_codes(latents: jax.Array, codebook: jax.Array) -> jax.Array:
    """Latents [..., D], codebook [K, D] -> int32 [...]; the lower number wins a tie."""
    return jnp.argmin(_distances(latents, codebook), axis=-1).astype(jnp.int32)


def _distances(latents: jax.Array, codebook: jax.Array) -> jax.Array:
    """Squared distances less the latents' own squares, [..., K]."""
    products = jnp.einsum("...d,kd->...k", latents, codebook, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(codebook**2, axis=-1) - 2 * products


def straight_through(latents: jax.Array, vectors: jax.Array) -> jax.Array:
    """The vectors, with the gradient handed to the latents as if nothing had been rounded."""
    return latents + jax.lax.stop_gradient(vectors - latents)


def perplexity(counts: jax.Array) -> jax.Array:
    """exp(entropy) of how often codes are used, from counts [K]: the number of codes in even use."""
    shares = counts / jnp.maximum(counts.sum(), 1e-9)
    return jnp.exp(-jnp.sum(shares * jnp.log(jnp.maximum(shares, 1e-12))))


def initial_usage(num_codes: int, code_dim: int) -> Usage:
    return Usage(np.zeros(num_codes, np.float32), np.zeros((num_codes, code_dim), np.float32))


def initial_codes(latents: jax.Array, num_codes: int, key: jax.Array) -> tuple[jax.Array, Usage]:
    """k-means++ and a few Lloyd iterations over latents [N, D] -> (codebook [K, D], its usage by these latents)."""
    first_key, key = jax.random.split(key)
    squares = jnp.sum(latents**2, axis=-1)

    def distance_to(vector):
        return jnp.maximum(squares - 2 * latents @ vector + vector @ vector, 0)

    def add_code(index, carry):
        codebook, nearest = carry
        # Drawn in proportion to the squared distance from the codes so far (Gumbel's trick on its logarithm).
        noise = jax.random.gumbel(jax.random.fold_in(key, index), nearest.shape)
        vector = latents[jnp.argmax(jnp.log(nearest + 1e-12) + noise)]
        return codebook.at[index].set(vector), jnp.minimum(nearest, distance_to(vector))

    first = latents[jax.random.randint(first_key, (), 0, len(latents))]
    codebook = jnp.zeros((num_codes, latents.shape[-1])).at[0].set(first)
    codebook, _ = jax.lax.fori_loop(1, num_codes, add_code, (codebook, distance_to(first)))

    def lloyd(_, carry):
        codebook, _ = carry
        usage = count_usage(latents, nearest_codes(latents, codebook), num_codes)
        means = usage.sums / jnp.maximum(usage.counts, 1)[:, None]
        return jnp.where(usage.counts[:, None] > 0, means, codebook), usage

    return jax.lax.fori_loop(0, KMEANS_ITERATIONS, lloyd, (codebook, initial_usage(*codebook.shape)))


def count_usage(latents: jax.Array, codes: jax.Array, num_codes: int) -> Usage:
    """How often each of codes [N] stands there, and the sums of latents [N, D] at it."""
    one_hot = jax.nn.one_hot(codes, num_codes, dtype=latents.dtype)
    return Usage(one_hot.sum(0), jnp.einsum("nk,nd->kd", one_hot, latents))


def updated_codebook(
    codebook: jax.Array,
    usage: Usage,
    latents: jax.Array,
    codes: jax.Array,
    *,
    training: ImageTokenizerTraining,
    step: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, Usage, jax.Array]:
    """After one training step on latents [N, D] that got codes [N] -> (codebook, usage, codes revived now, int32 []).

    Moving averages as in VQ-VAE-2; a code that none of the latents need any more is put where they are served worst.
    """
    decay = training.ema_decay
    now = count_usage(latents, codes, len(codebook))
    usage = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, usage, now)
    if training.codebook == "ema":
        # A code that faded from use keeps its place instead of being divided by nothing.
        means = usage.sums / jnp.maximum(usage.counts, 1e-5)[:, None]
        codebook = jnp.where(usage.counts[:, None] > 1e-5, means, codebook)
    if not training.revive_every:
        return codebook, usage, jnp.zeros((), jnp.int32)
    due = step % training.revive_every == 0
    even_use = len(latents) / len(codebook)
    dead = due & (usage.counts < training.dead_code_threshold * even_use)
    codebook, usage = jax.lax.cond(
        due, lambda: revived(codebook, usage, dead, latents, codes, key), lambda: (codebook, usage)
    )
    return codebook, usage, dead.sum(dtype=jnp.int32)


def revived(
    codebook: jax.Array, usage: Usage, dead: jax.Array, latents: jax.Array, codes: jax.Array, key: jax.Array
) -> tuple[jax.Array, Usage]:
    """Codes where dead [K] is true move onto different latents, drawn in proportion to their squared error."""
    errors = jnp.sum((latents - codebook[codes]) ** 2, axis=-1)
    scores = jnp.log(errors + 1e-12) + jax.random.gumbel(key, errors.shape)
    _, order = jax.lax.top_k(scores, min(len(codebook), len(latents)))
    # The n-th dead code takes the n-th best latent.
    places = latents[order[(jnp.cumsum(dead) - 1) % len(order)]]
    # As if used evenly so far: a code that is not taken up fades below the threshold again within the average's memory.
    count = len(latents) / len(codebook)
    return (
        jnp.where(dead[:, None], places, codebook),
        Usage(
            jnp.where(dead, count, usage.counts),
            jnp.where(dead[:, None], places * count, usage.sums),
        ),
    )
