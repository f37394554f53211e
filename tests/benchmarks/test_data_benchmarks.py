"""The benchmarks of near copies and of many shards, small: what they claim at full size holds here, too."""

import json
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


def run(name, *options):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *map(str, options)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def test_planted_copies_are_found_and_nothing_else():
    found = run("near_copies", "--documents", 12_000, "--planted", 600, "--cluster", 1500)
    assert found["recall"] >= 0.99 and min(found["recall_by_edit"].values()) >= 0.97
    assert found["cluster_left"] == 0 and found["struck_otherwise"] == 0


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_many_shards_are_read_with_few_open():
    options = ("--shards", 400, "--documents", 8, "--limit", 64, "--opened", 3000, "--reads", 500, "--rounds", 1)
    found = run("many_shards", *options)
    assert found["open_files"]["bounded"] < 40 < 400 < found["open_files"]["unbounded"]
    assert found.get("open_stats", 0) == 0
