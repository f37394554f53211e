"""Parameters as an Orbax checkpoint: onto any mesh, in either type, and back into a decoder's folder."""

import os
import signal
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from tiny_decoder import CONFIG, VOCABULARY, export, import_, random_params

from cm3leon_jax.interop.orbax_params import open_orbax, read_orbax
from cm3leon_jax.model.folder import load_decoder, save_decoder
from cm3leon_jax.model.partitioning import AxisRules, MeshConfig, Partitioning, make_mesh
from cm3leon_jax.runtime.errors import UserError


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_onto_one_device_or_a_mesh_and_back(tmp_path, params, dtype):
    save_decoder(tmp_path / "model", CONFIG, VOCABULARY, params)
    assert export(tmp_path / "model", tmp_path / "orbax", "--format=orbax", f"--dtype={dtype}") == 0
    kept = jax.tree.map(lambda x: x.astype(getattr(ml_dtypes, dtype, np.float32)), params)
    for mesh in (None, make_mesh(MeshConfig(fsdp=2)), make_mesh(MeshConfig(tensor=2))):
        config, vocabulary, found = read_orbax(tmp_path / "orbax", Partitioning(mesh, AxisRules()))
        assert (config, vocabulary) == (CONFIG, VOCABULARY)
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), kept)
        if mesh is not None:
            assert len(found["layers"]["attention"]["query"].sharding.device_set) == 2
    assert import_(tmp_path / "orbax/params", tmp_path / "back") == 0
    _, _, back = load_decoder(tmp_path / "back/model")
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y.astype(np.float32)), back, kept)
    if dtype == "float32":
        weights = [tmp_path / folder / "weights.safetensors" for folder in ("model", "back/model")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_another_decoders_description_is_refused(tmp_path, params):
    save_decoder(tmp_path / "model", CONFIG, VOCABULARY, params)
    assert export(tmp_path / "model", tmp_path / "orbax", "--format=orbax") == 0
    where = tmp_path / "orbax/cm3leon.json"
    where.write_text(where.read_text().replace('"num_layers": 3', '"num_layers": 2'))
    with pytest.raises(UserError, match="does not hold this decoder's parameters"):
        read_orbax(tmp_path / "orbax")
    with pytest.raises(UserError, match=r"does not hold this decoder's parameters \(.* is \[3, .* and by .* \[2, "):
        open_orbax(tmp_path / "orbax")
    assert import_(tmp_path / "orbax", tmp_path / "back") == 2
    assert not (tmp_path / "back").exists()


KILLED = """
import os, signal, sys
from cm3leon_jax.cli import main
from cm3leon_jax.runtime.tensor_stream import StoredTensor

read_rows, reads = StoredTensor.rows, []
def rows(self, start, stop):
    reads.append(start)
    if len(reads) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_rows(self, start, stop)
StoredTensor.rows = rows
main(["export", "--format=orbax", f"--decoder={sys.argv[1]}", f"--directory={sys.argv[2]}"])
"""


def test_a_killed_export_leaves_nothing_that_looks_whole(tmp_path, params):
    save_decoder(tmp_path / "model", CONFIG, VOCABULARY, params)
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "model", tmp_path / "orbax"])
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "orbax").exists()
    assert all(name == "model" or name.startswith(".") for name in os.listdir(tmp_path))
    assert export(tmp_path / "model", tmp_path / "orbax", "--format=orbax") == 0
    read_orbax(tmp_path / "orbax")
