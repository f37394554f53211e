"""Muon (Jordan et al. 2024) for convolution kernels: momentum whose singular values are all set to about one.

Measured on small VQGANs of 64x64 images: 27.0 dB with codes after 650 steps, where Adam stood at 22.4 dB after 1200;
the two runs also differed in width and loss, so the gain is not the optimizer's alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

# The quintic iteration's coefficients; after five steps every singular value lies in about 0.7 … 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Updates are scaled to this root mean square, which is what Adam's usually have: one learning rate fits both.
RMS = 0.2


class MuonState(NamedTuple):
    momentum: optax.Updates


def orthogonalized(matrix: jax.Array) -> jax.Array:
    """[m, n] -> the matrix with the same singular vectors and singular values near one.

    The iteration X <- X (aI + bA + cA²), A = XᵀX, is run on the smaller Gram matrix alone, and X is multiplied once.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return orthogonalized(matrix.T).T
    a, b, c = COEFFICIENTS
    matrix = matrix / (jnp.linalg.norm(matrix) + 1e-12)
    gram = matrix.T @ matrix
    identity = jnp.eye(len(gram))
    product = identity
    for _ in range(ITERATIONS):
        factor = a * identity + b * gram + c * (gram @ gram)
        product = product @ factor
        gram = factor @ gram @ factor
    return matrix @ product


def scale_by_muon(decay: float) -> optax.GradientTransformation:
    """Nesterov momentum, orthogonalised; kernels [h, w, in, out] count as matrices [h w in, out]."""

    def init(params: optax.Params) -> MuonState:
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def update(updates: optax.Updates, state: MuonState, params: optax.Params | None = None):
        del params
        momentum = jax.tree.map(lambda old, new: decay * old + new, state.momentum, updates)
        ahead = jax.tree.map(lambda old, new: decay * old + new, momentum, updates)
        return jax.tree.map(_orthogonal_update, ahead), MuonState(momentum)

    return optax.GradientTransformation(init, update)


def _orthogonal_update(kernel: jax.Array) -> jax.Array:
    rows, columns = math.prod(kernel.shape[:-1]), kernel.shape[-1]
    return RMS * math.sqrt(max(rows, columns)) * orthogonalized(kernel.reshape(rows, columns)).reshape(kernel.shape)


def make_optimizer(
    name: str, learning_rate: optax.Schedule, *, betas: tuple[float, float], clip_norm: float
) -> optax.GradientTransformation:
    """ "adam", or "muon": Muon for kernels and Adam for everything else; the gradient is clipped first."""
    adam = optax.scale_by_adam(*betas)
    if name == "adam":
        scale = adam
    else:
        labels = lambda params: jax.tree.map(lambda leaf: "muon" if leaf.ndim == 4 else "adam", params)  # noqa: E731
        scale = optax.multi_transform({"muon": scale_by_muon(0.95), "adam": adam}, labels)
    return optax.chain(optax.clip_by_global_norm(clip_norm), scale, optax.scale_by_learning_rate(learning_rate))
