"""Plans of a tiny model, compiled for slices that are not there; how the command answers."""

import dataclasses
import importlib.util
import json

import pytest

from cm3leon_jax.cli import main
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import AxisRules, MeshConfig
from cm3leon_jax.planning.chips import parse_slice
from cm3leon_jax.planning.compile import PlannedRun, compile_training_step, memory_error
from cm3leon_jax.planning.plan import describe, plan_training, rows_at_once, smaller_runs
from cm3leon_jax.planning.sampler import PlannedSampler, describe_sampler, plan_sampler
from cm3leon_jax.planning.search import candidates
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.training.optimizer import OptimizerConfig
from cm3leon_jax.training.step import StepConfig

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the TPU's compiler"
)
RUN = PlannedRun(
    model=DecoderConfig(num_layers=3, d_model=256, num_heads=2, max_length=512, remat="full"),
    mesh=MeshConfig(data=1, fsdp=-1),
    rules=AxisRules(),
    optimizer=OptimizerConfig(),
    step=StepConfig(),
    batch_size=16,
    length=512,
    retrieved_max=2,
)


@needs_compiler
@pytest.mark.parametrize("name", ["v5p-16", "2xv5e-4"])
def test_plan_of_a_tiny_model(name):
    slices = 2 if name.startswith("2x") else 1
    run = dataclasses.replace(RUN, mesh=MeshConfig(slices=slices, data=1, fsdp=-1))
    plan = plan_training(run, parse_slice(name), steps=100)
    assert plan["chips"] == 8
    assert 0 < plan["hbm_bytes_per_chip"] < plan["hbm_capacity_bytes"]
    assert not plan["warnings"]
    assert 0 < plan["predicted_mfu"] < 1
    assert plan["predicted_step_seconds"] == pytest.approx(sum(plan["seconds"].values()))
    assert plan["days"] == pytest.approx(100 * plan["predicted_step_seconds"] / 86_400)
    inside = 8 // slices
    layers = 3 * 12 * 256**2
    gathered = plan["collective_bytes"]["ici"]["all-gather"]
    # Each layer's weights are gathered in bfloat16 twice, forward and backward: once for the loss and the embedding.
    assert gathered >= 2 * 2 * layers * (inside - 1) / inside
    assert bool(plan["collective_bytes"]["dcn"]) == (slices == 2)
    assert json.loads(json.dumps(plan)) == plan
    text = describe(plan)
    assert parse_slice(name).name in text and "predicted MFU" in text and "8 chips" in text


@needs_compiler
def test_plan_of_a_tiny_sampler():
    model = DecoderConfig(num_layers=2, d_model=256, num_heads=2, max_length=512)
    slice_ = parse_slice("v5e-4")
    plan = plan_sampler(PlannedSampler(model, tensor=0, rows=2, prompt=256, steps=16), slice_)
    assert plan["tensor"] == 1 and plan["copies"] == 4
    assert 0 < plan["hbm_bytes_per_chip"] < plan["hbm_capacity_bytes"]
    # The loop over tokens counts with as many as an image has, not once.
    assert 16 * plan["predicted_step_seconds"] < plan["predicted_seconds"] < 32 * plan["predicted_step_seconds"]
    assert plan["images_per_second"] == pytest.approx(4 * 2 / plan["predicted_seconds"])
    assert not plan["warnings"]
    assert "4 copies" in describe_sampler(plan)


@needs_compiler
def test_a_sampler_that_cannot_be_split_so_is_refused():
    model = DecoderConfig(num_layers=2, d_model=256, num_heads=2, max_length=512)
    with pytest.raises(UserError, match="no number of chips divides 2 heads"):
        plan_sampler(PlannedSampler(model, tensor=4, rows=2, prompt=256, steps=16), parse_slice("v5e-4"))


@needs_compiler
@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 12}, "does not divide over 8 devices"),
        ({"mesh": MeshConfig(data=1, fsdp=-1, tensor=4)}, "4 tensor shards do not divide 2 heads"),
        ({"mesh": MeshConfig(data=3, fsdp=1)}, "does not fit 8 devices"),
    ],
)
def test_what_cannot_be_split_so_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        compile_training_step(dataclasses.replace(RUN, **change), parse_slice("v5p-16"))


@pytest.mark.parametrize(
    "message, needed",
    [
        ("XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 17.20G of 15.75G hbm.", 17.20),
        ("the total memory required for HLO temporaries (23.21G) exceeds available HBM (15.75G).", 23.21),
    ],
)  # fmt: skip
def test_the_compilers_figures_are_read(message, needed):
    error = memory_error(message)
    assert error.needed == int(needed * 2**30) and error.capacity == int(15.75 * 2**30)
    assert memory_error("INTERNAL: something else") is None


@pytest.mark.parametrize("rows, most, at_once", [(12, 8, 6), (2, 8, 2), (16, 8, 8), (3, 0, 3)])
def test_rows_at_once_are_those_that_the_step_really_takes(rows, most, at_once):
    run = dataclasses.replace(RUN, batch_size=4 * rows, step=StepConfig(per_device_batch_size=most))
    assert rows_at_once(run, parse_slice("v5e-4")) == at_once


def test_what_needs_less_memory_comes_least_costly_first():
    slice_ = parse_slice("v5e-4")
    run = dataclasses.replace(RUN, model=dataclasses.replace(RUN.model, remat="projections"))
    assert [change for change, _ in smaller_runs(run, slice_)] == [
        "DecoderConfig.remat = 'attention'",
        "DecoderConfig.remat = 'full'",
        "DecoderConfig.remat = 'full' and StepConfig.per_device_batch_size = 2",
        "DecoderConfig.remat = 'full' and StepConfig.per_device_batch_size = 1",
    ]
    at_once = {candidate.step.per_device_batch_size for candidate in candidates(run, slice_)}
    assert at_once == {1, 2, 4}


@pytest.mark.parametrize(
    "slice_name, message", [("v5p-255", "unknown TPU slice 'v5p-255'"), ("", "plan needs a slice")]
)
def test_the_command_says_what_is_missing(slice_name, message, capsys, monkeypatch):
    monkeypatch.setenv("CM3LEON_PREPARED", "1")  # the process is not to start itself again
    arguments = ["plan", "--gin_file", "models/350m", "--gin_file", "runs/pretrain"]
    assert main(arguments + (["--slice", slice_name] if slice_name else [])) == 2
    assert message in capsys.readouterr().err
