"""Muon (Jordan et al. 2024) for the stacked matrices of the layers: momentum, with all its singular values set to about
one. Not CM3Leon's; a small model that has minutes to learn gets further with it than with AdamW.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from cm3leon_jax.model.partitioning import Partitioning

# The quintic iteration's coefficients; after five steps every singular value lies in about 0.7 … 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class MuonState(NamedTuple):
    momentum: optax.Updates


def scale_by_muon(decay: float, partitioning: Partitioning) -> optax.GradientTransformation:
    """Nesterov momentum, orthogonalised, for parameters [layers, in, out]. An update's root mean square is about
    1 / √in, so that a layer's output changes as much whatever its width."""

    def init(params: optax.Params) -> MuonState:
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def update(updates: optax.Updates, state: MuonState, params: optax.Params | None = None):
        del params
        momentum = jax.tree.map(lambda old, new: decay * old + new, state.momentum, updates)
        ahead = jax.tree.map(lambda old, new: decay * old + new, momentum, updates)
        return jax.tree.map(lambda matrices: _direction(matrices, partitioning), ahead), MuonState(momentum)

    return optax.GradientTransformation(init, update)


def _direction(matrices_NxIxO: jax.Array, partitioning: Partitioning) -> jax.Array:
    count, inputs, outputs = matrices_NxIxO.shape
    scale = max(1.0, outputs / inputs) ** 0.5
    mesh, axes = partitioning.mesh, partitioning.batch_axes
    if mesh is None or partitioning.batch_shards == 1 or count % partitioning.batch_shards:
        return scale * orthogonalized(matrices_NxIxO)
    # Each device that holds a share of the batch takes a share of the layers instead of doing all of them again.
    share = PartitionSpec(axes)
    spread = jax.shard_map(orthogonalized, mesh=mesh, in_specs=share, out_specs=share, check_vma=False)
    return scale * spread(matrices_NxIxO)


def orthogonalized(matrices_NxIxO: jax.Array) -> jax.Array:
    """The matrices with the same singular vectors and singular values near one, float32.

    The iteration X <- X (aI + bA + cA²), A = XᵀX, is run on the smaller Gram matrix alone, and X is multiplied once.
    """
    # In bfloat16, which TPUs multiply in by default, rounding makes eigenvalues of the Gram matrix negative, and the
    # iteration makes those grow.
    with jax.default_matmul_precision("highest"):
        return jnp.stack([_orthogonalized(matrix) for matrix in matrices_NxIxO])


def _orthogonalized(matrix: jax.Array) -> jax.Array:
    if matrix.shape[0] < matrix.shape[1]:
        return _orthogonalized(matrix.T).T
    a, b, c = COEFFICIENTS
    matrix = matrix / (jnp.linalg.norm(matrix) + 1e-7)
    gram = matrix.T @ matrix
    identity = jnp.eye(len(gram))
    product = factor = a * identity + b * gram + c * (gram @ gram)
    for _ in range(ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = a * identity + b * gram + c * (gram @ gram)
        product = product @ factor
    return matrix @ product
