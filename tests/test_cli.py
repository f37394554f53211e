"""The command line: help comes at once, bad input is one line and exit status 2, gin files compose."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

from cm3leon_jax import cli

ROOT = pathlib.Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"CM3LEON_PREPARED": "1", "JAX_PLATFORMS": "cpu"}


def cm3leon(*arguments: str, cwd=ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cm3leon_jax", *arguments]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def test_help_lists_every_command():  # what it imports: test_startup.py
    result = cm3leon("--help")
    assert result.returncode == 0
    for command in ("prepare", "train", "sample", "evaluate", "demo"):
        assert f"  {command} " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["unknown command 'trian'", "'train'"]),
        (["scenes"], ["scenes needs --directory"]),
        (["scenes", "--directory", "x", "--size", "3"], ["--size"]),
        (["scenes", "--gin_file", "no/such.gin"], ["no gin file", "no/such.gin"]),
        (["scenes", "--gin.ScenesConfg.train=4"], ["unknown gin name", "ScenesConfg", "'ScenesConfig'"]),
        (["plan", "--slice=v5e-16"], ["DecoderConfig needs num_layers, d_model, num_heads", "models/350m"]),
        (["scenes", "--gin.ScenesConfig.trian=4"], ["no parameter 'trian'", "'train'"]),
        (["scenes", "--gin.scenes.directory=%PLACE"], ["macro PLACE is not set", "--gin.PLACE=VALUE"]),
        (["scenes", "--directory", "x", "--gin.ScenesConfig.train=0"], ["train = 0"]),
        (["scenes", "--gin.ScenesConfig"], ["has no value"]),
        (["train-text-tokenizer", "--source", "folder:/no/such", "--directory", "x"], ["/no/such"]),
        (["import", "--weights", "/no/such", "--directory", "x"], ["/no/such", "nothing at"]),
        (["prepare", "--source", "ftp:x", "--gin_file", "runs/demo"], ["ftp:x", "folder:PATH"]),
        (["report", "--directory", "/no/such"], ["no run folder"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, words, tmp_path):
    result = cm3leon(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("cm3leon: "), result.stderr
    for word in words:
        assert word in lines[0]
    assert not list(tmp_path.iterdir())  # nothing half-written is left behind


def test_scenes_are_made_once_with_their_settings_beside_them(tmp_path):
    sizes = [f"--gin.ScenesConfig.{name}=2" for name in ("train", "validation", "test")]
    arguments = ["scenes", "--directory", "made", *sizes]
    first = cm3leon(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "ScenesConfig.train = 2" in (tmp_path / "made" / "operative.gin").read_text()
    second = cm3leon(*arguments, cwd=tmp_path)
    assert second.returncode == 0 and "nothing to do" in second.stdout
    third = cm3leon(*arguments, "--gin.ScenesConfig.seed=1", cwd=tmp_path)
    assert third.returncode == 2 and "other settings (seed: 0 there, 1 now" in third.stderr


@pytest.mark.parametrize(
    ("value", "read"),
    [("3", 3), ("-1e-4", -1e-4), ("True", True), ("None", None), ("('a', 1)", ("a", 1)), ("10:15", "10:15"),
     ("2xv5e-256", "2xv5e-256"), ("./runs/x", "./runs/x"), ("../data", "../data"), ("-x", "-x"), ("'7'", "7")],
)  # fmt: skip
def test_the_value_of_a_binding_is_text_where_it_is_nothing_else(value, read):
    (line,) = cli._quoted([f"X.y={value}"])
    assert ast.literal_eval(line.partition(" = ")[2]) == read
