"""Plans of a tiny model, compiled for slices that are not there; how the command answers."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import re

import pytest

from cm3leon_jax.cli import main
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import AxisRules, MeshConfig
from cm3leon_jax.planning.candidates import meshes, smaller_runs
from cm3leon_jax.planning.chips import parse_slice
from cm3leon_jax.planning.compile import DoesNotFit, compile_training_step, memory_error
from cm3leon_jax.planning.hlo import parse_program
from cm3leon_jax.planning.plan import describe, plan_training, settings_of
from cm3leon_jax.planning.run import PlannedRun
from cm3leon_jax.planning.sampler import PlannedSampler, describe_sampler, plan_sampler
from cm3leon_jax.planning.search import fastest, fitting, smallest_change
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.rule_kernel import KERNEL_NAME
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
SLICE = parse_slice("v5e-4")


@needs_compiler
@pytest.mark.parametrize("name", ["v5p-16", "2xv5e-4"])
def test_plan_of_a_tiny_model(name):
    slices = 2 if name.startswith("2x") else 1
    run = dataclasses.replace(RUN, mesh=MeshConfig(slices=slices, data=1, fsdp=-1))
    plan = plan_training(run, parse_slice(name), steps=100)
    assert plan["chips"] == 8
    assert 0 < plan["hbm_bytes_per_chip"] < plan["hbm_capacity_bytes"]
    assert not plan["warnings"]
    assert plan["versions"] == {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}
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
def test_plan_of_a_tiny_sampler(monkeypatch):
    read = []
    monkeypatch.setattr(
        "cm3leon_jax.planning.compile.parse_program", lambda text: read.append(text) or parse_program(text)
    )
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
    # Logits go from the product to the rule's kernel: nothing else reads them, or copies them in between.
    logits = re.findall(r"%(\S+) = f32\[2,2,8192\]\S* (?!parameter|get-tuple)(\w+)\(", read[0])
    assert [opcode for _, opcode in logits] == ["convolution", "fusion"]
    readers = re.findall(rf"%(\S+) = .*\(.*%{logits[1][0]}\b", read[0])
    assert len(readers) == 1 and readers[0].startswith(KERNEL_NAME)


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
    assert run.rows_at_once(SLICE) == at_once


def test_what_needs_less_memory_comes_least_costly_first():
    run = dataclasses.replace(RUN, model=dataclasses.replace(RUN.model, remat="projections"))
    changes = [candidate.changes(run) for candidate in smaller_runs(run, SLICE)]
    assert changes == [
        ["DecoderConfig.remat = 'attention'"],
        ["DecoderConfig.remat = 'full'"],
        ["DecoderConfig.remat = 'full'", "StepConfig.per_device_batch_size = 2"],
        ["DecoderConfig.remat = 'full'", "StepConfig.per_device_batch_size = 1"],
    ]
    copied = dataclasses.replace(run, mesh=MeshConfig())
    assert smaller_runs(copied, SLICE)[0].changes(copied) == ["AxisRules.embed = ('data', 'fsdp')"]


def planned_if(fits):
    """Stands in for the compiler: every plan that fits takes a second."""

    def planned(run, slice_, steps):
        if not fits(run):
            raise DoesNotFit(17 * 2**30, 16 * 2**30)
        return {"predicted_step_seconds": 1.0, "hbm_bytes_per_chip": 2**30, "predicted_mfu": 0.5}

    return planned


def test_the_smallest_change_is_the_first_that_the_compiler_fits(monkeypatch, capsys):
    monkeypatch.setattr(
        "cm3leon_jax.planning.search.plan_training", planned_if(lambda run: run.step.per_device_batch_size == 2)
    )
    assert smallest_change(RUN, SLICE, steps=10)["changes"] == ["StepConfig.per_device_batch_size = 2"]
    assert capsys.readouterr().out == "  StepConfig.per_device_batch_size = 2: MFU 50.0%, 1.0 GiB, 1.000 s\n"
    monkeypatch.setattr("cm3leon_jax.planning.search.plan_training", planned_if(lambda run: False))
    assert smallest_change(RUN, SLICE, steps=10) is None
    assert "needs 17.00 GiB a chip of 16.00 GiB" in capsys.readouterr().out


def test_the_command_plans_what_does_not_fit_with_the_smallest_change(monkeypatch, capsys, tmp_path):
    def planned(run, slice_, steps):
        if run.rows_at_once(slice_) > 4:
            raise DoesNotFit(17 * 2**30, 16 * 2**30)
        return {
            "slice": slice_.name,
            "chips": slice_.chips,
            "settings": settings_of(run, slice_),
            "hbm_bytes_per_chip": 2**30,
            "hbm_capacity_bytes": 2**34,
            "hbm": {"arguments": 2**29, "temporaries": 2**29},
            "flops_per_chip": 1e15,
            "collective_bytes": {"ici": {}, "dcn": {}},
            "predicted_step_seconds": 1.0,
            "seconds": {"computing": 1.0, "kernels": 0.0, "waiting": 0.0},
            "predicted_mfu": 0.5,
            "tokens_per_second_per_chip": 1e4,
            "days": 1.0,
            "steps": steps,
            "tokens_per_step": 2**23,
            "compile_seconds": 1.0,
            "warnings": [],
        }

    for module in ("plan", "search"):
        monkeypatch.setattr(f"cm3leon_jax.planning.{module}.plan_training", planned)
    files = [f"--gin_file={file}" for file in ("models/7b", "hardware/v5e_256", "runs/pretrain")]
    written = tmp_path / "plan.json"
    assert main(["plan", *files, f"--json={written}"]) == 2
    found = json.loads(written.read_text())
    assert found["changes"] == ["StepConfig.per_device_batch_size = 4"] and found["days"] == 1.0
    output = capsys.readouterr()
    assert output.err.strip() == f"cm3leon: {found['error']}"
    assert found["error"].endswith("needs 17.00 GiB a chip of 16.00 GiB; set StepConfig.per_device_batch_size = 4")
    assert re.search(r"to be set +StepConfig.per_device_batch_size = 4\n", output.out)


def test_other_meshes_keep_the_rows_of_a_chip_and_leave_out_what_cannot_fit():
    slice_ = parse_slice("v5e-16")
    small = dataclasses.replace(RUN, batch_size=64, step=StepConfig(per_device_batch_size=2))
    found = list(meshes(small, slice_))
    assert [(run.mesh.data, run.mesh.fsdp, run.mesh.tensor, run.rules.embed) for run in found] == [
        (4, 4, 1, ("data", "fsdp")),
        (4, 4, 1, "fsdp"),
        (4, 4, 1, None),
        (4, 2, 2, ("data", "fsdp")),
        (4, 2, 2, "fsdp"),
        (4, 2, 2, None),
    ]  # 2 heads do not divide by 4
    assert {run.rows_at_once(slice_) / run.mesh.tensor for run in found} == {2}
    assert found[0].changes(small) == [
        "MeshConfig.data = 4", "MeshConfig.fsdp = 4", "AxisRules.embed = ('data', 'fsdp')"
    ]  # fmt: skip
    large = dataclasses.replace(small, model=DecoderConfig(num_layers=32, d_model=4096, num_heads=32))
    assert [run.rules.embed for run in meshes(large, slice_)] == [("data", "fsdp")] * 3


def test_a_policy_that_saves_less_is_compiled_only_with_more_rows(monkeypatch, capsys):
    most = {"none": 1, "dots": 1, "projections": 4}

    def fits(run):
        return run.step.per_device_batch_size <= most.get(run.model.remat, 16)

    monkeypatch.setattr("cm3leon_jax.planning.search.plan_training", planned_if(fits))
    run = dataclasses.replace(RUN, batch_size=32)
    found = fitting(run, SLICE, steps=10)
    assert [(each.model.remat, each.step.per_device_batch_size) for each, _ in found] == [
        ("none", 1), ("projections", 4), ("attention", 8)
    ]  # fmt: skip
    compiled = capsys.readouterr().out.splitlines()
    assert len(compiled) == 4 + 3 + 2 + 1  # none: 8, 4, 2, 1; dots: 8, 4, 2; projections: 8, 4; attention: 8
    assert compiled[-1] == (
        "  DecoderConfig.remat = 'attention', StepConfig.per_device_batch_size = 8: MFU 50.0%, 1.0 GiB, 1.000 s"
    )
    # A policy whose saved values alone do not fit is not compiled at all.
    wide = dataclasses.replace(run, model=DecoderConfig(num_layers=32, d_model=4096, num_heads=32), length=4096)
    fitting(wide, parse_slice("v5e-16"), steps=10)
    assert "remat = 'none'" not in capsys.readouterr().out


def test_the_search_takes_the_fastest_on_the_given_mesh_to_other_meshes(monkeypatch, capsys):
    def planned(run, slice_, steps):
        if run.step.per_device_batch_size < 4:
            raise DoesNotFit(17 * 2**30, 16 * 2**30)
        faster = run.model.remat == "none", run.rules.embed is None, run.mesh.tensor == 2
        return {"predicted_step_seconds": 4.0 - sum(faster), "hbm_bytes_per_chip": 2**30, "predicted_mfu": 0.5}

    monkeypatch.setattr("cm3leon_jax.planning.search.plan_training", planned)
    best = fastest(dataclasses.replace(RUN, batch_size=64), parse_slice("v5e-16"), steps=10)
    assert best["predicted_step_seconds"] == 1.0
    assert best["changes"] == [
        "DecoderConfig.remat = 'none'", "StepConfig.per_device_batch_size = 8",
        "MeshConfig.data = 4", "MeshConfig.fsdp = 2", "MeshConfig.tensor = 2", "AxisRules.embed = None",
    ]  # fmt: skip


def test_a_search_that_finds_nothing_says_so(monkeypatch, capsys):
    monkeypatch.setattr("cm3leon_jax.planning.search.plan_training", planned_if(lambda run: False))
    with pytest.raises(UserError, match="nothing fits v5e-4; take a larger slice"):
        fastest(RUN, SLICE, steps=10)
    assert "needs 17.00 GiB a chip of 16.00 GiB" in capsys.readouterr().out


@pytest.mark.parametrize("embed", [("data", "fsdp"), "fsdp", None])
@needs_compiler
def test_every_way_of_splitting_parameters_compiles(embed):
    rules, mesh = dataclasses.replace(RUN.rules, embed=embed), MeshConfig(data=2, fsdp=1, tensor=2)
    program = compile_training_step(dataclasses.replace(RUN, mesh=mesh, rules=rules), SLICE)
    assert program.cost.seconds > 0 and not program.cost.warnings


@pytest.mark.parametrize(
    "slice_name, message", [("v5p-255", "unknown TPU slice 'v5p-255'"), ("", "plan needs a slice")]
)
def test_the_command_says_what_is_missing(slice_name, message, capsys, monkeypatch):
    arguments = ["plan", "--gin_file", "models/350m", "--gin_file", "runs/pretrain"]
    assert main(arguments + (["--slice", slice_name] if slice_name else [])) == 2
    assert message in capsys.readouterr().err
