"""Parts of tensors are read from their file, and little else."""

import builtins

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.runtime import tensor_stream
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.tensor_stream import stored_tensors


@st.composite
def shapes_and_parts(draw):
    shape = draw(st.lists(st.integers(1, 7), min_size=0, max_size=4))
    cuts = [sorted(draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in shape]
    whole = [draw(st.booleans()) for _ in shape]
    index = tuple(slice(None) if all_ else slice(*cut) for all_, cut in zip(whole, cuts, strict=True))
    return tuple(shape), index


@settings(max_examples=200, deadline=None)
@given(shapes_and_parts(), st.sampled_from([np.float32, np.int8, ml_dtypes.bfloat16]), st.integers(1, 64))
def test_any_part_is_that_of_the_array(tmp_path_factory, problem, dtype, smallest):
    shape, index = problem
    path = tmp_path_factory.mktemp("tensor") / "a.safetensors"
    array = np.arange(max(1, int(np.prod(shape)))).reshape(shape).astype(dtype)
    safetensors.numpy.save_file({"other": np.ones(3), "it": array}, path)
    tensor = stored_tensors(path)["it"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tensor_stream, "_SMALLEST", smallest)
        patched.setattr(tensor_stream, "_READ_BYTES", 2 * smallest)
        found = tensor.read(index)
    assert found.dtype == array.dtype and found.shape == array[index].shape
    np.testing.assert_array_equal(found, array[index])


def test_only_the_part_is_read(tmp_path, monkeypatch):
    array = np.arange(6 * 64 * 256, dtype=np.float32).reshape(6, 64, 256)
    safetensors.numpy.save_file({"it": array}, tmp_path / "a.safetensors")
    tensor = stored_tensors(tmp_path / "a.safetensors")["it"]
    read = []

    class Counted:
        def __init__(self, path, *options, **others):
            self._file = builtins.open(path, *options, **others)  # noqa: SIM115 - closed by __exit__

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def seek(self, offset):
            self._file.seek(offset)

        def readinto(self, buffer):
            read.append(len(buffer))
            return self._file.readinto(buffer)

    monkeypatch.setattr(tensor_stream, "open", Counted, raising=False)
    for index, most in (
        ((slice(1, 2), slice(None), slice(None)), 64 * 256 * 4),
        ((slice(None), slice(16, 32), slice(None)), 6 * 16 * 256 * 4),
        ((slice(None), slice(None), slice(64, 128)), 6 * 64 * 64 * 4),
        ((slice(None), slice(0, 8), slice(0, 4)), 6 * 8 * 256 * 4),  # 16 bytes a row: rows are read
    ):
        read.clear()
        np.testing.assert_array_equal(tensor.read(index), array[index])
        assert sum(read) == most


def test_a_file_that_was_cut_off_is_a_user_error(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"it": np.ones((4, 8), np.float32)}, path)
    tensor, whole = stored_tensors(path)["it"], path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(UserError, match="cut off"):
        tensor.read((slice(None), slice(None)))
    with pytest.raises(UserError, match="cannot be read"):
        stored_tensors(path)
