import dataclasses
import functools

import jax
import numpy as np
import pytest

from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.runtime.devices import put_batch
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.training.evaluate import make_evaluate
from cm3leon_jax.training.optimizer import make_optimizer
from cm3leon_jax.training.step import StepConfig, init_state, make_train_step, state_shardings
from cm3leon_jax.vocabulary import Vocabulary

STEPS = 40


@pytest.fixture(scope="module")
def compiled(config, vocabulary, optimizer_config):
    """(mesh, rows at once) -> (partitioning, a function that makes a new state, the step), compiled once each."""

    @functools.cache
    def make(mesh, at_once):
        partitioning = Partitioning(
            make_mesh(MeshConfig(data=1), jax.devices()[:1]) if mesh == "one" else make_mesh(mesh)
        )
        optimizer = make_optimizer(optimizer_config, STEPS)
        start = jax.device_get(init_state(0, config, optimizer, partitioning))
        shardings = state_shardings(config, optimizer, partitioning)
        step_config = StepConfig(loss_chunk=8, per_device_batch_size=at_once)
        step = make_train_step(config, vocabulary, optimizer_config, STEPS, partitioning, step_config)
        return partitioning, lambda: jax.device_put(start, shardings), step

    return make


@pytest.fixture(scope="module")
def run(compiled, batch_of_step):
    """(steps, …) -> (final state, metrics of each step, the compiled step)."""

    def go(steps, mesh=MeshConfig(), at_once=0, change=lambda index, batch: batch):  # noqa: B008 - immutable
        partitioning, new_state, step = compiled(mesh, at_once)
        state, history = new_state(), []
        for index in range(steps):
            batch = put_batch(change(index, batch_of_step(index)), partitioning.sharding("batch"))
            state, metrics = jax.block_until_ready(step(state, batch))
            history.append({name: float(value) for name, value in metrics.items()})
        return jax.device_get(state), history, step

    return go


@pytest.fixture(scope="module")
def usual(run):
    return run(STEPS)


def test_a_fixed_run_reaches_a_fixed_loss(usual):
    _, history, _ = usual
    np.testing.assert_allclose(history[0]["loss"], 4.679, atol=0.001)
    np.testing.assert_allclose(history[-1]["loss"], 0.957, atol=0.01)
    assert history[-1]["skipped"] == 0


def test_five_steps_compile_once(usual):
    assert usual[2]._cache_size() == 1


@pytest.mark.parametrize("mesh", ["one", MeshConfig(data=1, fsdp=2), MeshConfig(data=1, tensor=2)])
def test_every_mesh_trains_alike(run, usual, mesh):
    _, history, _ = run(3, mesh)
    for found, expected in zip(history, usual[1][:3], strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_accumulated_parts_equal_one_large_batch(run, usual):
    _, history, _ = run(3, at_once=1)
    for found, expected in zip(history, usual[1][:3], strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_step_that_is_not_finite_changes_nothing(run):
    def spoil(index, batch):
        return batch | {"weights": np.where(index == 1, np.inf, batch["weights"]).astype(np.float32)}

    spoiled, history, _ = run(2, change=spoil)
    clean, _, _ = run(1)
    assert [row["skipped"] for row in history] == [0, 1]
    assert [row["finite"] for row in history] == [1, 0]
    jax.tree.map(np.testing.assert_array_equal, spoiled["params"], clean["params"])
    jax.tree.map(np.testing.assert_array_equal, spoiled["opt_state"], clean["opt_state"])
    assert spoiled["step"] == 2


def test_metrics_split_by_the_modality_of_targets(config, vocabulary, partitioning, batch_of_step, run):
    state, history, _ = run(1)
    batch = batch_of_step(0)
    assert history[0]["tokens"] == batch["weights"].sum()
    evaluate = make_evaluate(config, vocabulary, partitioning, StepConfig(loss_chunk=8))
    found = evaluate(state["params"], {"mixed": [batch, batch_of_step(1)], "text": [_only(batch, vocabulary.is_text)]})
    assert set(found) == {
        f"{loss}_{name}" for loss in ("loss", "loss_text", "loss_image") for name in ("mixed", "text")
    }
    assert found["loss_text"] == pytest.approx(found["loss_text_text"])
    assert found["loss_image_text"] == 0
    # Of a mixed batch, the whole is the mean of the parts (control tokens aside, of which these batches have none).
    counts = dict.fromkeys(("text", "image", "all"), 0.0)
    for each in (batch, batch_of_step(1)):
        counts["text"] += (each["weights"] * vocabulary.is_text(each["targets"])).sum()
        counts["image"] += (each["weights"] * vocabulary.is_image(each["targets"])).sum()
        counts["all"] += each["weights"].sum()
    rest = counts["all"] - counts["text"] - counts["image"]
    share = found["loss_text_mixed"] * counts["text"] + found["loss_image_mixed"] * counts["image"]
    assert share <= found["loss_mixed"] * counts["all"] <= share + rest * 10


def test_losses_by_the_number_of_retrieved_documents(config, vocabulary, optimizer_config, partitioning, batch_of_step):
    settings = StepConfig(loss_chunk=8, per_device_batch_size=2)
    step = make_train_step(config, vocabulary, optimizer_config, STEPS, partitioning, settings, retrieved_max=2)
    state = jax.device_get(init_state(0, config, make_optimizer(optimizer_config, STEPS), partitioning))

    def metrics_of(batch):
        _, metrics = step(state, put_batch(batch, partitioning.sharding("batch")))
        return {name: float(value) for name, value in metrics.items()}

    batch = batch_of_step(0)
    batch["retrieved"] = np.where(batch["segments"] == 2, 2, 0).astype(np.int32)  # of each row's first example none
    found = metrics_of(batch)
    for count in (0, 2):
        alone = metrics_of(_only(batch, lambda targets, count=count: batch["retrieved"] == count))
        assert found[f"loss_retrieved_{count}"] == pytest.approx(alone["loss"], rel=1e-5)
        assert np.isnan(alone[f"loss_retrieved_{2 - count}"])
    assert found["loss_retrieved_0"] != pytest.approx(found["loss_retrieved_2"], rel=1e-3)
    # There is no such example, so there is no such loss; the loop does not log it.
    assert np.isnan(found["loss_retrieved_1"]) and found["finite"] == 1


def test_the_scale_of_the_learning_rate_scales_every_update(
    config, vocabulary, optimizer_config, partitioning, batch_of_step
):
    """AdamW's, which the embeddings have, Muon's, and those of decay alone: at first the queries have no gradient."""
    optimizer_config = dataclasses.replace(optimizer_config, matrices="muon")
    step = make_train_step(config, vocabulary, optimizer_config, STEPS, partitioning, StepConfig(loss_chunk=8))
    start = jax.device_get(init_state(0, config, make_optimizer(optimizer_config, STEPS, partitioning), partitioning))
    batch = put_batch(batch_of_step(0), partitioning.sharding("batch"))

    def after(scale):
        return jax.device_get(step(start | {"learning_rate_scale": np.float32(scale)}, batch))

    (whole, metrics), (half, lower) = after(1.0), after(0.5)
    assert lower["learning_rate"] == pytest.approx(0.5 * metrics["learning_rate"], rel=1e-6)
    jax.tree.map(np.testing.assert_array_equal, half["opt_state"], whole["opt_state"])
    assert half["learning_rate_scale"] == 0.5 and whole["learning_rate_scale"] == 1

    def check(before, moved, moved_less):
        assert np.abs(moved - before).max() > 1e-6
        np.testing.assert_allclose(moved_less - before, 0.5 * (moved - before), rtol=1e-3, atol=3e-8)

    jax.tree.map(check, start["params"], whole["params"], half["params"])


def _only(batch, chosen):
    return batch | {"weights": batch["weights"] * chosen(batch["targets"])}


@pytest.mark.parametrize("wrong", [{"loss_chunk": 0}, {"per_device_batch_size": -1}, {"z_loss": -1.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        StepConfig(**wrong)


def test_a_vocabulary_that_does_not_fit_is_refused(config, optimizer_config, partitioning):
    larger = Vocabulary(text_size=100, image_size=24, num_sentinels=4, multiple_of=64)
    with pytest.raises(UserError, match="vocab_size"):
        make_train_step(config, larger, optimizer_config, STEPS, partitioning, StepConfig())


def test_bfloat16_learns_as_float32_does(config, vocabulary, optimizer_config, partitioning, batch_of_step, usual):
    half = dataclasses.replace(config, compute_dtype="bfloat16")
    state = init_state(0, half, make_optimizer(optimizer_config, STEPS), partitioning)
    step = make_train_step(half, vocabulary, optimizer_config, STEPS, partitioning, StepConfig(loss_chunk=8))
    for index in range(STEPS):
        state, metrics = jax.block_until_ready(
            step(state, put_batch(batch_of_step(index), partitioning.sharding("batch")))
        )
    assert float(metrics["loss"]) == pytest.approx(usual[1][-1]["loss"], abs=0.05)
