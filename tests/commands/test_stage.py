"""A stage runs once, refuses other settings, may be extended, and records what it cost."""

import json
import time

import pytest

from cm3leon_jax.commands.stage import STAGE_FILE, commit, run_stage
from cm3leon_jax.runtime.errors import UserError


def _run(directory, calls, *, settings=None, extendable=None, work=None, command="prepare"):
    run_stage(
        directory,
        command,
        settings=settings or {"size": 3, "betas": (0.9, 0.98)},
        extendable=extendable or {"steps": 10},
        work=work or (lambda: calls.append(1)),
    )


def test_runs_once_and_records(tmp_path, capsys):
    calls: list[int] = []
    _run(tmp_path / "a", calls)
    _run(tmp_path / "a", calls)
    assert calls == [1]
    assert "nothing to do" in capsys.readouterr().out
    record = json.loads((tmp_path / "a" / STAGE_FILE).read_text())
    assert record["finished"] and record["seconds"] >= 0 and record["peak_memory_gib"] > 0


def test_git_is_not_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None


def test_other_settings_are_refused_by_name(tmp_path):
    calls: list[int] = []
    _run(tmp_path, calls)
    with pytest.raises(UserError, match=r"size: 3 there, 4 now"):
        _run(tmp_path, calls, settings={"size": 4, "betas": (0.9, 0.98)})
    with pytest.raises(UserError, match="cm3leon prepare"):
        _run(tmp_path, calls, command="train")
    assert calls == [1]


def test_a_longer_run_continues(tmp_path):
    calls: list[int] = []
    _run(tmp_path, calls)
    _run(tmp_path, calls, extendable={"steps": 20})
    assert calls == [1, 1]


def test_the_start_of_the_process_counts_once(tmp_path, monkeypatch):
    before = 1e6  # seconds, which no stage of this test takes
    monkeypatch.setenv("CM3LEON_STARTED", str(time.time() - before))
    for name in ("first", "second"):
        _run(tmp_path / name, [])
    first, second = (json.loads((tmp_path / name / STAGE_FILE).read_text())["seconds"] for name in ("first", "second"))
    assert before <= first < 2 * before and second < before


def test_an_interrupted_stage_is_not_finished_and_its_time_counts(tmp_path):
    def fail():
        raise KeyboardInterrupt

    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, calls, work=fail)
    before = json.loads((tmp_path / STAGE_FILE).read_text())
    assert not before["finished"] and before["seconds"] > 0
    _run(tmp_path, calls)
    after = json.loads((tmp_path / STAGE_FILE).read_text())
    assert after["finished"] and after["seconds"] > before["seconds"] and calls == [1]
