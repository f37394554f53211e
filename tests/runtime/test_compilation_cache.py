"""Compiled programs are kept on disk: where, how much, and that a process started again finds them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from cm3leon_jax.runtime.compilation_cache import trim, use_compilation_cache
from cm3leon_jax.runtime.errors import UserError

# Two devices that talk to each other, and a donated argument, as in a training step.
PROGRAM = """
import json, sys
from cm3leon_jax.runtime.platform import prepare_process
prepare_process([], program=(sys.argv[0],))
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rsplit("/", 1)[-1]))
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
rows, whole = PartitionSpec("data"), PartitionSpec()
def step(w, x):
    g = jax.lax.psum(x.T @ jnp.sin(x @ w), "data") + jax.lax.all_gather(x, "data").sum()
    return w - 1e-3 * g
mapped = jax.shard_map(step, mesh=mesh, in_specs=(whole, rows), out_specs=whole, check_vma=False)
step = jax.jit(mapped, donate_argnums=0)
with jax.default_matmul_precision("float32"):
    w, x = jnp.eye(64), jnp.cos(jnp.arange(32 * 64.0)).reshape(32, 64)
    for _ in range(50):
        w = step(w, x)
print(json.dumps({"sum": w.sum().item().hex(), "last": w[-1, -1].item().hex(), "events": events}))
"""


def run(script: pathlib.Path, cache: str) -> dict:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CM3LEON_", "JAX_", "XLA_"))}
    environment = kept | {
        "CM3LEON_COMPILATION_CACHE": cache,
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    result = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_process_started_again_compiles_nothing_and_computes_the_same(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    plain = run(script, "off")
    first, second = (run(script, str(tmp_path / "cache")) for _ in range(2))
    assert not {"cache_hits", "cache_misses"} & set(plain["events"])
    assert "cache_misses" in first["events"]
    assert "cache_hits" in second["events"] and "cache_misses" not in second["events"]
    for name in ("sum", "last"):
        assert plain[name] == first[name] == second[name]  # to the last bit


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """A process that nothing was said to; its home is `tmp_path`. What the test sets is unset again."""
    names = ("CM3LEON_COMPILATION_CACHE", "CM3LEON_COORDINATOR", "JAX_COMPILATION_CACHE_DIR")
    for name in (*names, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def folder() -> str | None:
    return os.environ.get("JAX_COMPILATION_CACHE_DIR")


def test_the_default_is_the_users_cache_folder_for_this_processor(environment, tmp_path):
    use_compilation_cache(accelerator=False)
    found = pathlib.Path(folder())
    assert found.parent == tmp_path / ".cache" / "cm3leon_jax" / "xla" and found.is_dir()
    assert found.stat().st_mode & 0o077 == 0
    os.environ.pop("JAX_COMPILATION_CACHE_DIR")
    environment.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    use_compilation_cache(accelerator=True)
    assert folder() == str(tmp_path / "other" / "cm3leon_jax" / "xla" / found.name)


def test_it_is_off_when_told_so_and_for_several_processes_on_cpus(environment):
    environment.setenv("CM3LEON_COMPILATION_CACHE", "off")
    use_compilation_cache(accelerator=True)
    assert folder() is None
    environment.delenv("CM3LEON_COMPILATION_CACHE")
    environment.setenv("CM3LEON_COORDINATOR", "localhost:1")
    use_compilation_cache(accelerator=False)
    assert folder() is None
    use_compilation_cache(accelerator=True)
    assert folder() is not None


def test_the_users_own_settings_are_kept(environment, tmp_path):
    environment.setenv("CM3LEON_COMPILATION_CACHE", "gs://bucket/cache")
    use_compilation_cache(accelerator=True)
    assert folder() == "gs://bucket/cache"
    environment.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
    use_compilation_cache(accelerator=True)
    assert folder() == "/mine"


def test_a_folder_that_cannot_be_made_is_the_users_error_or_no_cache(environment, tmp_path):
    (tmp_path / "file").write_text("")
    environment.setenv("CM3LEON_COMPILATION_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="CM3LEON_COMPILATION_CACHE"):
        use_compilation_cache(accelerator=False)
    environment.delenv("CM3LEON_COMPILATION_CACHE")
    environment.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    use_compilation_cache(accelerator=False)
    assert folder() is None


def test_what_was_not_used_for_longest_is_removed_first(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / "processor" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (1e9 - age, 1e9 - age))
    trim(tmp_path, limit_bytes=200)
    assert {path.name for path in (tmp_path / "processor").iterdir()} == {"new", "middle"}
    trim(tmp_path, limit_bytes=0)
    assert not list((tmp_path / "processor").iterdir())
