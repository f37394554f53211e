"""What stands in the environment before anything heavy is imported."""

import json
import os
import subprocess
import sys

import pytest

from cm3leon_jax.runtime import platform
from cm3leon_jax.runtime.platform import prepare_process

SCRIPT = """
import json, os, sys
from cm3leon_jax.runtime.platform import prepare_process
prepare_process(sys.argv[1:], program=(sys.argv[0],))
print(json.dumps([dict(os.environ), sys.argv[1:]]))
"""
OURS = ("JAX_PLATFORMS", "XLA_FLAGS", "CM3LEON_PREPARED", "CM3LEON_STARTED", *platform._ALLOCATOR)
here = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux does the process start itself again")


def prepared(tmp_path, **environment):
    (tmp_path / "script.py").write_text(SCRIPT)
    inherited = {name: value for name, value in os.environ.items() if name not in OURS}
    inherited |= {"CM3LEON_COMPILATION_CACHE": "off"}
    command = [sys.executable, str(tmp_path / "script.py"), "train", "--steps=3"]
    result = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


@here
def test_on_a_cpu_no_other_platform_is_looked_for(tmp_path):
    environment, arguments = prepared(tmp_path, JAX_PLATFORMS="cpu", XLA_FLAGS="--xla_dump_to=x")
    cores = len(os.sched_getaffinity(0))
    assert environment["JAX_PLATFORMS"] == "cpu"
    assert environment["XLA_FLAGS"] == f"--xla_dump_to=x --xla_force_host_platform_device_count={cores}"
    assert environment["GLIBC_TUNABLES"] and environment["CM3LEON_PREPARED"] == "1"
    assert arguments == ["train", "--steps=3"]


@here
def test_what_was_asked_for_stands(tmp_path):
    flags = "--xla_force_host_platform_device_count=7"
    environment, _ = prepared(tmp_path, JAX_PLATFORMS="cpu", XLA_FLAGS=flags, GLIBC_TUNABLES="")
    assert environment["XLA_FLAGS"] == flags and environment["GLIBC_TUNABLES"] == ""


@pytest.fixture
def bare(monkeypatch):
    """An environment without our settings, restored afterwards; the process does not start itself again."""
    for name in OURS:
        monkeypatch.setenv(name, "")  # known to be restored
        monkeypatch.delenv(name)
    monkeypatch.setattr("cm3leon_jax.runtime.platform.use_compilation_cache", lambda accelerator: None)
    monkeypatch.setattr("os.execv", lambda *_: None)
    return monkeypatch


@pytest.mark.parametrize("device", ["nvidia0", "accel3", "vfio/17"])
def test_an_accelerator_is_left_to_jax(device, bare):
    bare.setattr("glob.glob", lambda pattern: [f"/dev/{device}"] if pattern[5:8] == device[:3] else [])
    prepare_process([])
    assert "JAX_PLATFORMS" not in os.environ and "CM3LEON_PREPARED" not in os.environ


@here
def test_without_one_jax_is_told_so(bare):
    bare.setattr("glob.glob", lambda pattern: [])
    prepare_process([])
    assert os.environ["JAX_PLATFORMS"] == "cpu" and os.environ["CM3LEON_PREPARED"] == "1"
