"""Checkpoints written and read in pieces: Orbax itself restores them, and what Orbax saved in other ways is read."""

import os
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from cm3leon_jax.interop import orbax_stream
from cm3leon_jax.interop.orbax_stream import chunk_shape, open_stream, save_stream
from cm3leon_jax.model.partitioning import MeshConfig, make_mesh
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.tensor_stream import NewTensor, StoredTensor, stored_tensors, write_tensors

FLOAT32 = np.dtype(np.float32)
SHAPES = {"layers/up": (5, 40, 24), "layers/bias": (5, 24), "tokens": (301, 16), "one": (1,)}


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(orbax_stream, "CHUNK_BYTES", 1024)
    monkeypatch.setattr(orbax_stream, "PIECE_BYTES", 4096)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


@pytest.fixture
def stored(tmp_path, arrays):
    write_tensors(
        tmp_path / "w.safetensors",
        {name: NewTensor(x.shape, x.dtype, lambda x=x: [x]) for name, x in arrays.items()},
    )
    return stored_tensors(tmp_path / "w.safetensors")


def nested(arrays):
    return {
        "layers": {"up": arrays["layers/up"], "bias": arrays["layers/bias"]},
        "tokens": arrays["tokens"],
        "one": arrays["one"],
    }


def read(directory):
    return {name: np.concatenate(list(tensor.pieces())) for name, tensor in open_stream(directory).items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == FLOAT32
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


@pytest.mark.parametrize("dtype", [FLOAT32, np.dtype(ml_dtypes.bfloat16)], ids=str)
def test_orbax_restores_what_was_streamed(tmp_path, small_pieces, arrays, stored, dtype):
    save_stream(tmp_path / "orbax", stored, dtype)
    kept = {name: x.astype(dtype) for name, x in arrays.items()}
    with ocp.StandardCheckpointer() as standard, ocp.PyTreeCheckpointer() as pytree:
        for found in (standard.restore(tmp_path / "orbax"), pytree.restore(tmp_path / "orbax")):
            assert jax.tree.map(lambda x: x.dtype, found) == jax.tree.map(lambda x: dtype, nested(kept))
            jax.tree.map(np.testing.assert_array_equal, found, nested(kept))
        mesh = make_mesh(MeshConfig(fsdp=2))
        for axes in ((None, "fsdp"), (None, None, "fsdp")):  # 40 rows of chunks of 8, and 24 columns of chunks of 24
            target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nested(kept))
            sharding = NamedSharding(mesh, PartitionSpec(*axes))
            target["layers"]["up"] = jax.ShapeDtypeStruct(SHAPES["layers/up"], dtype, sharding=sharding)
            up = standard.restore(tmp_path / "orbax", target)["layers"]["up"]
            assert len(up.sharding.device_set) == 2 and not up.sharding.is_fully_replicated
            np.testing.assert_array_equal(jax.device_get(up), kept["layers/up"])
    assert_same(read(tmp_path / "orbax"), kept)


def test_no_more_than_a_layer_is_read_at_a_time(tmp_path, small_pieces, stored, monkeypatch):
    read_rows, sizes = StoredTensor.rows, []

    def rows(self, start, stop):
        sizes.append(((stop - start) * self.dtype.itemsize * int(np.prod(self.shape[1:])), stop - start))
        return read_rows(self, start, stop)

    monkeypatch.setattr(StoredTensor, "rows", rows)
    save_stream(tmp_path / "orbax", stored, FLOAT32)
    assert all(size <= 4096 or count == 1 for size, count in sizes)
    pieces = [piece for tensor in open_stream(tmp_path / "orbax").values() for piece in tensor.pieces()]
    assert all(piece.nbytes <= 4096 or len(piece) == 1 for piece in pieces)
    assert len(pieces) == len(sizes) > len(SHAPES) + 5


@pytest.mark.parametrize("options", [{}, {"use_ocdbt": False}, {"use_ocdbt": True, "use_zarr3": True}], ids=str)
def test_what_orbax_saved_from_memory_is_read(tmp_path, small_pieces, arrays, options):
    tree = nested(arrays | {"tokens": arrays["tokens"].astype(ml_dtypes.bfloat16)})
    sharding = NamedSharding(make_mesh(MeshConfig(fsdp=2)), PartitionSpec(None, "fsdp"))
    tree["layers"]["up"] = jax.device_put(tree["layers"]["up"], sharding)
    with ocp.PyTreeCheckpointer(**options) as checkpointer:
        checkpointer.save(tmp_path / "orbax", tree)
    assert_same(read(tmp_path / "orbax"), arrays | {"tokens": tree["tokens"]})


def test_a_damaged_checkpoint_is_refused(tmp_path, small_pieces, stored):
    save_stream(tmp_path / "orbax", stored, FLOAT32)
    files = (path for path in (tmp_path / "orbax").rglob("d/*") if path.is_file())
    max(files, key=lambda path: path.stat().st_size).unlink()
    with pytest.raises(UserError, match=r"cannot be read .*; copy or download it again"):
        read(tmp_path / "orbax")


def test_a_tensor_that_is_cut_off_leaves_no_checkpoint(tmp_path, small_pieces, stored):
    file = tmp_path / "w.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(UserError, match="was cut off"):
        save_stream(tmp_path / "orbax", stored, FLOAT32)
    assert not (tmp_path / "orbax").exists()


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=4), st.sampled_from([2, 4]))
def test_chunks_are_contiguous_and_as_large_as_allowed(shape, itemsize):
    chunk = chunk_shape(tuple(shape), np.dtype(f"f{itemsize}"))
    limit = orbax_stream.CHUNK_BYTES // itemsize
    assert np.prod(chunk) <= limit
    cut = [axis for axis, (part, size) in enumerate(zip(chunk, shape, strict=True)) if part < size]
    assert all(chunk[axis] == 1 for axis in range(max(cut, default=0)))
    assert not cut or 2 * np.prod(chunk) > limit


MEASURE = """
import pathlib, resource, sys
import numpy as np
from cm3leon_jax.interop.orbax_stream import open_stream, save_stream
from cm3leon_jax.runtime.tensor_stream import NewTensor, stored_tensors, write_tensors

work, float32 = pathlib.Path(sys.argv[1]), np.dtype(np.float32)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def rows(count):
    rng = np.random.default_rng(0)
    return (rng.standard_normal((1, 1024, 4096), np.float32) for _ in range(count))
def pass_through(name, layers):
    write_tensors(work / f"{name}.safetensors", {"x": NewTensor((layers, 1024, 4096), float32, lambda: rows(layers))})
    save_stream(work / name, stored_tensors(work / f"{name}.safetensors"), float32)
    saved = peak()
    assert sum(len(piece) for piece in open_stream(work / name)["x"].pieces()) == layers
    return saved, peak()
print(*pass_through("small", 2), *pass_through("large", 14))
"""


def test_memory_does_not_grow_with_the_number_of_layers(tmp_path):
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # what is freed is not kept for later
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path], capture_output=True, text=True, check=True, env=environment
    )
    *_, before, saved, read = map(int, done.stdout.split())
    layer = 1024 * 4096 * 4
    assert max(saved, read) - before < 4 * layer  # of 12 more
