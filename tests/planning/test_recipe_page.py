"""The page of plans, and the command that makes it."""

import importlib.metadata
import json

from cm3leon_jax.cli import main
from cm3leon_jax.planning.recipes import page

installed_version = importlib.metadata.version
PLAN = {
    "chips": 256,
    "steps": 175_000,
    "tokens_per_step": 2048 * 4096,
    "settings": {"batch_size": 2048, "per_device_batch_size": 4, "remat": "dots"},
    "collective_bytes": {"ici": {"all-gather": 2e9, "reduce-scatter": 1e9}, "dcn": {}},
    "hbm_bytes_per_chip": 3 * 2**30,
    "hbm_capacity_bytes": 16 * 2**30,
    "predicted_step_seconds": 1.25,
    "predicted_mfu": 0.5,
    "tokens_per_second_per_chip": 26_214.4,
    "days": 2.5,
    "versions": {"jax": "1.2.3", "libtpu": "0.4"},
}
DOES_NOT_FIT = {"error": "the step does not fit v5e-16: it needs 200 GiB; nothing but a larger slice helps"}
FITS_CHANGED = PLAN | {"error": "the step does not fit", "changes": ["StepConfig.per_device_batch_size = 2"]}


def test_rows_are_sorted_by_slice_and_say_what_a_plan_says():
    two = PLAN | {"chips": 512, "collective_bytes": {"ici": {"all-gather": 2e9}, "dcn": {"all-reduce": 1.5e9}}}
    plans = {
        ("7b", "v5e_256_x2"): two,
        ("7b", "v5e_256"): PLAN,
        ("7b", "v5e_32"): FITS_CHANGED,
        ("7b", "v5e_16"): DOES_NOT_FIT,
    }
    text = page(plans)
    rows = [line for line in text.splitlines() if line.startswith("| v5e")]
    assert rows[0].startswith("| v5e_16 * | - |")
    assert rows[1].startswith("| v5e_32 * | 256 |")
    assert rows[2] == ("| v5e_256 | 256 | 8, 4 | dots | 3.0 of 16.0 GiB | 3 GB | 1.25 s | 50.0% | 26,214 | 2.5 |")
    assert "| 2 GB + 1.5 GB |" in rows[3]
    assert len({row.count("|") for row in rows}) == 1
    assert "## 7b\n175,000 steps of 8.4M tokens.\n\n| hardware" in text
    assert "- v5e_16 *: take a larger slice" in text
    assert '- v5e_32 *: add `"--gin.StepConfig.per_device_batch_size = 2"`' in text


def test_the_page_says_which_slices_were_not_planned():
    assert "not planned" not in page({("7b", "v5e_256"): PLAN}, ["v5e_256"])
    hardware = ["v6e_256", "v6e_32", "v5e_256"]
    assert "that are not planned here: `v6e_32`, `v6e_256`." in page({("7b", "v5e_256"): PLAN}, hardware)


def test_the_page_says_the_versions_that_the_plans_name():
    older = {name: value for name, value in PLAN.items() if name != "versions"}
    assert "Made with" not in page({("7b", "v5e_16"): older, ("7b", "v5e_32"): DOES_NOT_FIT})
    plans = {("7b", "v5e_16"): older, ("7b", "v5e_32"): PLAN, ("1b", "v5e_32"): PLAN}
    assert " Made with jax 1.2.3, libtpu 0.4.\n" in page(plans)
    plans["1b", "v5e_16"] = PLAN | {"versions": {"jax": "1.2.4", "libtpu": "0.4"}}
    assert " Made with jax 1.2.3, libtpu 0.4 and with jax 1.2.4, libtpu 0.4.\n" in page(plans)


def without_libtpu(package):
    """Stands in for `importlib.metadata.version` where the TPU's compiler is not installed."""
    if package == "libtpu":
        raise importlib.metadata.PackageNotFoundError(package)
    return installed_version(package)


def test_the_command_goes_on_from_finished_plans(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("subprocess.run", None)  # nothing is left to plan
    monkeypatch.setattr("importlib.metadata.version", without_libtpu)
    work, output = tmp_path / "work", tmp_path / "recipes.md"
    work.mkdir()
    (work / "7b.v5e_256.json").write_text(json.dumps(PLAN))
    assert main(["recipes", f"--work={work}", f"--output={output}", "--models=7b", "--hardware=v5e_256"]) == 0
    assert "| v5e_256 | 256 |" in output.read_text() and "libtpu 0.4." in output.read_text()
    assert main(["recipes", f"--work={work}", f"--output={output}", "--hardware=v5x"]) == 2
    assert "no hardware file 'v5x'" in capsys.readouterr().err
