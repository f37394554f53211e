import json
import pathlib

import pytest

from cm3leon_jax import cli

TINY = str(pathlib.Path(__file__).parent.parent / "tiny.gin")


def test_speed_needs_no_data(tmp_path, capsys):
    given = ["--gin_file", TINY, "--gin.DecoderConfig.vocab_size=64", "--gin.train/LoopConfig.steps=1000"]
    assert cli.main(["speed", *given, "--steps=2", f"--json={tmp_path}/speed.json"]) == 0
    measured = json.loads((tmp_path / "speed.json").read_text())
    assert measured["compute_dtype"] == "float32" and measured["steps"] == 1000
    assert measured["tokens_per_step"] == 4 * 128
    assert measured["tokens_per_second"] * measured["step_seconds"] == pytest.approx(4 * 128)
    line = capsys.readouterr().out.splitlines()[-1]
    assert "tokens/s in float32" in line and "1,000 steps take" in line


def test_speed_times_at_least_a_step(capsys):
    assert cli.main(["speed", "--gin_file", TINY, "--steps=0"]) == 2
    assert "steps" in capsys.readouterr().err
