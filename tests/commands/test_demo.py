"""The demo is public commands in a row: killed in the middle and started again, it continues."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from cm3leon_jax.runtime.errors import EXIT_START_AGAIN

TINY = pathlib.Path(__file__).parent.parent / "tiny.gin"
# What the demo's own settings still need to become tiny; folders and their order are the demo's.
SETTINGS = """
ScenesConfig.resolution = 64
ImageTokenizerConfig.resolution = 64
ImageTokenizerConfig.patch_size = 8
StreamConfig.length = 288
StreamConfig.chapter_steps = 32
SuitesConfig.examples = 2
ScenesConfig.train = 96
ScenesConfig.validation = 8
ScenesConfig.test = 8
ImageTokenizerTraining.start = 'random'
DecoderConfig.max_length = 768
EvaluationConfig.examples = 4
EvaluationConfig.best_of = 2
EvaluationConfig.best_of_examples = 2
EvaluationConfig.shown = 2
"""


@pytest.fixture
def demo(tmp_path):
    """Starts the demo in a process group of its own; its output is a pipe of lines."""
    (tmp_path / "tiny_demo.gin").write_text(SETTINGS)
    gin_files = [f"--gin_file={file}" for file in ("runs/demo.gin", TINY, "tiny_demo.gin")]
    # Behind the demo's own files stands that of fine-tuning; bindings stand behind all.
    command = [sys.executable, "-m", "cm3leon_jax", "demo", "--sft", *gin_files, "--gin.train/LoopConfig.steps=4"]
    running = []

    def start() -> subprocess.Popen:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"CM3LEON_PREPARED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_killed_in_the_middle_it_continues(demo, tmp_path):
    killed = demo()
    for line in killed.stdout:
        if line.startswith("[3/10]"):
            os.killpg(killed.pid, signal.SIGKILL)
            break
    assert killed.wait() == -signal.SIGKILL
    assert json.loads((tmp_path / "runs/demo/text_tokenizer/stage.json").read_text())["finished"]

    asked = demo()
    lines = iter(asked.stdout)
    assert any(line.startswith("[4/10]") for line in lines)
    next(lines), next(lines)  # the command, and the first line that it prints
    asked.terminate()
    asked.stdout.read()
    assert asked.wait() == EXIT_START_AGAIN
    with pytest.raises(ProcessLookupError):
        os.killpg(asked.pid, 0)  # its command has ended as well

    output, _ = demo().communicate(timeout=1800)
    report = tmp_path / "runs/demo/report.html"
    assert report.exists(), output
    assert report.stat().st_size > 10_000
    assert "scenes: runs/demo/scenes is finished; nothing to do" in output
    assert "train: runs/demo/decoder is finished" not in output
    results = json.loads((tmp_path / "runs/demo/results.json").read_text())
    assert set(results["text_to_image"]) == {"plain", "top_p", "guided", "cdk", "ceiling"}
    seconds = results["seconds"]
    assert len(seconds) == 12 and min(seconds.values()) > 0
    assert seconds["total"] == pytest.approx(sum(seconds.values()) - seconds["total"])
    scores = json.loads((tmp_path / "runs/demo/scene_tasks/scores.json").read_text())
    assert len(scores["tasks"]) == 9 and set(scores["text_to_image"]) == {"before", "after"}
    table = (tmp_path / "runs/demo/scene_tasks/result.md").read_text()
    assert "| edit | both |" in table and "| science | answer, ceiling |" in table
    assert "text_rendering: parts of the score" in report.read_text()
    assert results["memory_bank"]["recall_at_10"] == 1.0
    assert results["peak_memory_gib"] > 0.1 and results["parameters"] > 0
