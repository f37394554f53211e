"""Files of `torch.save` from before PyTorch 1.6: read as they are, or refused with one line."""

import random

import numpy as np
import pytest
from torch_archive import call, storage, tensor, write_legacy

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.torch_files import TorchFile

SIX = np.arange(6, dtype=np.float32)


def read(path):
    file = TorchFile(path)
    return file.read(file.names)


def test_what_torch_saves(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which makes such files")
    path, base = tmp_path / "a.pth", torch.arange(24.0).reshape(2, 3, 4)
    state = {"all": base, "part": base[1, :, 1:3], "long": base.long(), "half": base.half(), "number": torch.tensor(3)}
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))  # an OrderedDict with attributes
    for tensors in (state, module.state_dict()):
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
        found = read(path)
        assert list(found) == list(tensors)
        for key, expected in tensors.items():
            np.testing.assert_array_equal(found[key], expected.numpy(), strict=True)


def test_by_hand(tmp_path):
    path = tmp_path / "a.pth"
    view = call("torch._utils\n_rebuild_tensor_v2", storage(key="b", elements=6), 3, (3,), (1,), False, {})
    contents = {"state_dict": {"w": tensor(key="a"), "v": view}, "other": [storage(key="c", kind="torch\nLongStorage")]}
    write_legacy(path, contents, {"c": (6, bytes(48)), "a": (6, SIX.tobytes()), "b": (6, (2 * SIX).tobytes())})
    found = read(path)
    np.testing.assert_array_equal(found["w"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(found["v"], [6, 8, 10])


@pytest.mark.parametrize(
    ("entry", "storages", "words"),
    [
        (tensor(), {}, "data/0 is missing"),
        (tensor(), {"0": (6, bytes(20))}, "cut off"),
        (tensor(), {"0": (7, bytes(28))}, "has 28 bytes, not 6 elements"),
        (tensor(), {"0": (1 << 60, bytes(24))}, "more than there are"),
        (tensor(), {"0": (-1, bytes(24))}, "fewer than no elements"),
        (tensor(), {"1": (6, bytes(24))}, "kept as None"),
        (tensor(kind="torch\nComplexFloatStorage"), {"0": (6, bytes(24))}, "kept as torch.ComplexFloatStorage"),
        (tensor(shape=(2, 4)), {"0": (6, bytes(24))}, "does not lie within"),
    ],
)
def test_what_torch_never_saves(entry, storages, words, tmp_path):
    write_legacy(tmp_path / "a.pth", {"w": entry}, storages)
    with pytest.raises(UserError, match=words) as error:
        read(tmp_path / "a.pth")
    assert str(error.value).isprintable() and "a.pth" in str(error.value)


def test_random_changes(tmp_path):
    """A changed file is read, or refused with one line."""
    rng, path = random.Random(0), tmp_path / "a.pth"
    contents = {"state_dict": {"w": tensor(), "v": tensor(key="1", shape=(6,), strides=(1,))}, "epoch": 3}
    write_legacy(path, contents, {"0": (6, SIX.tobytes()), "1": (6, SIX.tobytes())})
    sound, outcomes = path.read_bytes(), {"read": 0, "refused": 0}
    for _ in range(1000):
        data = bytearray(sound)
        start = rng.randrange(len(data))
        end = min(len(data), start + rng.choice([0, 1, 1, 4, 30]))
        data[start:end] = rng.randbytes(rng.choice([end - start, end - start, 0, 3]))
        path.write_bytes(data)
        try:
            assert all(array.nbytes <= 24 for array in read(path).values())
            outcomes["read"] += 1
        except UserError as error:
            assert str(error).isprintable()
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50


def test_nothing_is_called(tmp_path):
    path, made = tmp_path / "a.pth", tmp_path / "made"
    write_legacy(path, {"x": call("os\nsystem", f"touch {made}"), "w": tensor()}, {"0": (6, SIX.tobytes())})
    np.testing.assert_array_equal(read(path)["w"], SIX.reshape(2, 3))
    assert not made.exists()
