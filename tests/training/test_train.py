import dataclasses
import json

import jax
import numpy as np
import pytest

from cm3leon_jax.model.folder import load_decoder, open_initial_params
from cm3leon_jax.runtime.batches import batches_by_step
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.metrics import read_metrics
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.training.optimizer import learning_rate_schedule
from cm3leon_jax.training.step import StepConfig
from cm3leon_jax.training.train import TrainingConfig, train_decoder


@pytest.fixture(scope="module")
def training(optimizer_config):
    return TrainingConfig(optimizer=optimizer_config, step=StepConfig(loss_chunk=8))


@pytest.fixture(scope="module")
def finished(config, vocabulary, training, batch_of_step, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    seen = []
    params = train_decoder(
        config,
        vocabulary,
        training,
        LoopConfig(steps=6, log_every=2, evaluate_every=3, checkpoint_every=4),
        batches_by_step(batch_of_step),
        directory,
        evaluation={"retrieved_0": [batch_of_step(100)]},
        on_step=lambda step, params: seen.append((step, params["embedding"]["tokens"].shape)),
    )
    return directory, params, seen


def test_a_run_leaves_metrics_an_evaluation_and_a_model(config, vocabulary, finished):
    directory, params, seen = finished
    assert seen == [(3, (vocabulary.size, config.d_model)), (6, (vocabulary.size, config.d_model))]
    rows = read_metrics(directory / "training")
    assert [row["step"] for row in rows if "train/loss" in row] == [2, 4, 6]
    assert all(row["train/tokens_per_second"] > 0 for row in rows if "train/loss" in row)
    evaluation = json.loads((directory / "evaluation.json").read_text())
    assert (
        evaluation["loss_text_retrieved_0"]
        == [row["eval/loss_text_retrieved_0"] for row in rows if "eval/loss_text_retrieved_0" in row][-1]
    )
    loaded_config, loaded_vocabulary, loaded = load_decoder(directory / "model")
    assert (loaded_config, loaded_vocabulary) == (config, vocabulary)
    jax.tree.map(np.testing.assert_array_equal, loaded, jax.device_get(params))


def test_a_finished_run_started_again_changes_nothing(config, vocabulary, training, batch_of_step, finished):
    directory, params, _ = finished
    evaluation = (directory / "evaluation.json").read_text()
    again = train_decoder(
        config,
        vocabulary,
        training,
        LoopConfig(steps=6),
        batches_by_step(batch_of_step),
        directory,
        evaluation={"retrieved_0": [batch_of_step(100)]},
    )
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(params))
    assert (directory / "evaluation.json").read_text() == evaluation


def test_a_run_goes_on_in_the_dtype_that_it_began_in(config, vocabulary, training, batch_of_step, tmp_path, capsys):
    def run(compute_dtype, steps):
        model = dataclasses.replace(config, compute_dtype=compute_dtype)
        train_decoder(model, vocabulary, training, LoopConfig(steps=steps), batches_by_step(batch_of_step), tmp_path)
        return capsys.readouterr().out, load_decoder(tmp_path / "model")[0].compute_dtype

    for begun, steps in (("float32", 1), ("bfloat16", 3)):  # one of them is not this processor's
        assert f"computes in {begun}" in run(begun, steps)[0]
        said, kept = run("auto", steps + 1)
        assert f"computes in {begun}, as its last checkpoint" in said and kept == "auto"


def test_fine_tuning_starts_from_the_given_parameters(config, vocabulary, training, batch_of_step, finished, tmp_path):
    config_, vocabulary_, loaded = load_decoder(finished[0] / "model")
    stored = open_initial_params(finished[0] / "model", config_, vocabulary_)
    quiet = lambda step: batch_of_step(step) | {"weights": np.full((8, 24), np.inf, np.float32)}  # noqa: E731
    params = train_decoder(
        config, vocabulary, training, LoopConfig(steps=1), batches_by_step(quiet), tmp_path, initial_params=stored
    )
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), loaded)


def test_batches_longer_than_the_model_are_refused(config, vocabulary, training, batch_of_step, tmp_path):
    longer = lambda step: {name: np.tile(value, 2) for name, value in batch_of_step(step).items()}  # noqa: E731
    with pytest.raises(UserError, match="max_length"):
        train_decoder(config, vocabulary, training, LoopConfig(steps=1), batches_by_step(longer), tmp_path)


def test_batches_that_do_not_divide_are_refused_before_anything_is_compiled(
    config, vocabulary, training, batch_of_step, tmp_path, monkeypatch
):
    monkeypatch.setattr("cm3leon_jax.training.train.init_state", None)  # it would be compiled
    seven = batches_by_step(lambda number: {name: value[:7] for name, value in batch_of_step(number).items()})
    with pytest.raises(UserError, match="7 rows does not divide over 2 devices"):
        train_decoder(config, vocabulary, training, LoopConfig(steps=1), seven, tmp_path)


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_compiled(
    config, vocabulary, training, batch_of_step, tmp_path, monkeypatch
):
    monkeypatch.setattr("cm3leon_jax.training.train.init_state", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        train_decoder(
            config, vocabulary, training, LoopConfig(steps=1), batches_by_step(batch_of_step), tmp_path / "file"
        )


def test_a_run_whose_batches_are_all_bad_stops_with_one_line(config, vocabulary, training, batch_of_step, tmp_path):
    bad = lambda step: batch_of_step(step) | {"weights": np.full((8, 24), np.inf, np.float32)}  # noqa: E731
    loop = LoopConfig(steps=9, max_skipped_in_a_row=2)
    with pytest.raises(UserError, match="not finite in 2 steps in a row"):
        train_decoder(config, vocabulary, training, loop, batches_by_step(bad), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "training/skipped.jsonl").read_text().splitlines()]
    assert [(row["step"], row["position"]) for row in rows] == [(1, None), (2, {"step": 1})]


def test_a_loss_that_does_not_fall_any_more_lowers_the_learning_rate(
    config, vocabulary, training, batch_of_step, tmp_path, capsys
):
    def batch(step):
        """From the fourth on, targets that nothing tells."""
        found = batch_of_step(step) | {"retrieved": np.full((8, 24), 2, np.int32)}
        if step >= 3:
            found["targets"] = np.random.default_rng(step).integers(2, 50, found["targets"].shape).astype(np.int32)
        return found

    loop = LoopConfig(
        steps=40, log_every=1, checkpoint_every=2, plateau_steps=4, plateau_factor=0.5, plateau_restarts=1
    )
    with pytest.raises(UserError, match="after 1 restarts"):
        train_decoder(config, vocabulary, training, loop, batches_by_step(batch), tmp_path, retrieved_max=2)
    assert (
        "decoder: the training loss has not fallen since step 3; from step 7 back to step 2" in capsys.readouterr().out
    )
    rows = read_metrics(tmp_path / "training")
    (restart,) = [row for row in rows if "restart/number" in row]
    assert restart["step"] == 3
    rates = {row["step"]: row["train/learning_rate"] for row in rows if "train/learning_rate" in row}
    schedule = learning_rate_schedule(training.optimizer, 40)
    scales = {step: rate / float(schedule(step - 1)) for step, rate in rates.items()}
    assert scales == pytest.approx({1: 1, 2: 1} | dict.fromkeys(range(3, max(rates) + 1), 0.5))
    assert all(row["train/loss_retrieved_2"] == pytest.approx(row["train/loss"]) for row in rows if "train/loss" in row)
    assert not any("train/loss_retrieved_1" in row for row in rows)
