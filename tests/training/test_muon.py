import dataclasses

import jax
import numpy as np
import pytest

from cm3leon_jax.model.decoder import init_params
from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.runtime.devices import put_batch
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.training.muon import orthogonalized
from cm3leon_jax.training.optimizer import OptimizerConfig, make_optimizer
from cm3leon_jax.training.step import StepConfig, init_state, make_train_step


@pytest.mark.parametrize("shape", [(12, 12), (8, 24), (24, 8)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    matrices = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    for before, after in zip(matrices, np.asarray(orthogonalized(matrices)), strict=True):
        left, _, right = np.linalg.svd(before, full_matrices=False)
        inner = left.T @ after @ right.T
        assert np.abs(inner - np.diag(np.diag(inner))).max() < 1e-3
        assert np.diag(inner).min() > 0.6 and np.diag(inner).max() < 1.3


def test_products_are_of_float32_on_every_device():
    """TPUs multiply in bfloat16 unless told otherwise, in which the iteration blows up."""
    program = str(jax.make_jaxpr(orthogonalized)(np.zeros((1, 4, 4), np.float32)))
    assert program.count("dot_general[") == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") > 10


def test_embeddings_stay_with_adamw_and_matrices_move_evenly(config):
    params = init_params(config, jax.random.key(0))
    gradients = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), params)
    settings = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, weight_decay=0.1, muon_learning_rate=0.02)
    updates = {}
    for matrices in ("adamw", "muon"):
        optimizer = make_optimizer(dataclasses.replace(settings, matrices=matrices), 10)
        updates[matrices], _ = optimizer.update(gradients, optimizer.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, updates["muon"]["embedding"], updates["adamw"]["embedding"])
    query = params["layers"]["attention"]["query"]
    moved = updates["muon"]["layers"]["attention"]["query"] + 1e-3 * 0.1 * query  # decay taken out again
    values = np.linalg.svd(moved[0], compute_uv=False) / 0.02
    assert np.quantile(values, 0.1) > 0.6 and values.max() < 1.3  # of a random matrix the least is almost 0


def test_layers_shared_out_over_devices_train_like_on_one(config, vocabulary, batch_of_step):
    settings = OptimizerConfig(learning_rate=3e-3, warmup_steps=5, matrices="muon")
    losses = []
    for count in (1, 2):
        partitioning = Partitioning(make_mesh(MeshConfig(), jax.devices()[:count]))
        step = make_train_step(config, vocabulary, settings, 40, partitioning, StepConfig(loss_chunk=8))
        state = init_state(0, config, make_optimizer(settings, 40, partitioning), partitioning)
        history = []
        for index in range(6):
            batch = put_batch(batch_of_step(index), partitioning.sharding("batch"))
            state, metrics = jax.block_until_ready(step(state, batch))
            history.append(float(metrics["loss"]))
        losses.append(history)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[0][-1] < losses[0][0] - 0.5


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="adamw"):
        OptimizerConfig(matrices="sgd")
