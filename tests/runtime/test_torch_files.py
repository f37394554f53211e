import collections
import random
import zipfile

import numpy as np
import pytest
from torch_archive import Raw, call, pickled, storage, tensor, write

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.torch_files import TorchFile

SIX = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_torch_saves(protocol, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch, which makes such files")
    base = torch.arange(24.0).reshape(2, 3, 4)
    state = {
        "all": base,
        "permuted": base.permute(2, 0, 1),
        "part": base[1, :, 1:3],
        "number": torch.tensor(3.0),
        "one": base[:1, :, :1],
        "parameter": torch.nn.Parameter(base.clone()),
        "bfloat16": base.bfloat16(),
        "bool": base > 7,
    }
    for dtype in ("float16", "float64", "int64", "int32", "int16", "int8", "uint8"):
        state[dtype] = base.to(getattr(torch, dtype))
    torch.save(state, tmp_path / "a.pt", pickle_protocol=protocol)
    training = {"epoch": 1, "state_dict": collections.OrderedDict(state), "types": {torch.nn.Linear: np.float64(1)}}
    torch.save(training, tmp_path / "b.ckpt", pickle_protocol=protocol)
    for name in ("a.pt", "b.ckpt"):
        file = TorchFile(tmp_path / name)
        assert file.names == list(state)
        found = file.read(file.names)
        for key, expected in state.items():
            assert found[key].dtype.name == str(expected.dtype).removeprefix("torch.")
            np.testing.assert_array_equal(found[key].astype(np.float64), expected.detach().double().numpy())
            assert not found[key].flags.writeable
        assert list(file.read(["part"])) == ["part"]


def test_by_hand(tmp_path):
    contents = {
        "w": tensor(),
        "t": tensor(shape=(3, 2), strides=(1, 3)),
        "last": tensor(offset=5, shape=(), strides=()),
    }
    contents |= {"number": 3, "parameter": call("torch._utils\n_rebuild_parameter", tensor(key="1"), True, {})}
    path = write(tmp_path / "a.ckpt", contents, {"0": SIX.tobytes(), "1": SIX.tobytes()})
    found = TorchFile(path).read(["w", "t", "last", "parameter"])
    np.testing.assert_array_equal(found["w"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(found["t"], SIX.reshape(2, 3).T)
    assert found["last"] == 5 and found["parameter"].shape == (2, 3)
    assert TorchFile(path).names == ["w", "t", "last", "parameter"]


def check_one_line(path, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        file = TorchFile(path)
        file.read(file.names)
    assert str(error.value).isprintable() and str(path) in str(error.value)


BEYOND = "does not lie within data/0"
STRANGE = "not described as torch.save does it"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (tensor(shape=(2, 4)), BEYOND),
        (tensor(offset=1), BEYOND),
        (tensor(strides=(4, 1)), BEYOND),
        (tensor(shape=(2, 3), strides=(1 << 62, 1)), BEYOND),
        (tensor(shape=(1 << 40, 1 << 40), strides=(0, 0)), BEYOND),
        (tensor(shape=(7,), strides=(0,)), BEYOND),
        (tensor(shape=(0, 1 << 62), strides=(1, 1)), BEYOND),
        (tensor(offset=1 << 80, shape=(), strides=()), BEYOND),
        (tensor(offset=-1), STRANGE),
        (tensor(strides=(3, -1)), STRANGE),
        (tensor(shape=(-2, -3)), STRANGE),
        (tensor(shape=(2,)), STRANGE),
        (tensor(shape=[2, 3]), STRANGE),
        (tensor(shape=(2, "3")), STRANGE),
        (tensor(shape=(True, 3)), STRANGE),
        (tensor(shape=(1,) * 9, strides=(1,) * 9), STRANGE),
        (tensor(elements="6"), STRANGE),
        (tensor(key=0), STRANGE),
        (tensor(elements=5), "has 24 bytes, not 5 elements"),
        (tensor(elements=1 << 80), "has 24 bytes"),
        (tensor(kind="torch\nComplexFloatStorage"), "kept as torch.ComplexFloatStorage"),
        (tensor(key="9"), "archive/data/9 is missing"),
        (tensor(key="../data.pkl"), "is missing"),
        (tensor(key="\x1b\n"), "is missing"),
        (call("torch._utils\n_rebuild_tensor_v2"), STRANGE),
        (call("torch._utils\n_rebuild_tensor_v2", 1, 2, 3, 4), STRANGE),
        (Raw(b"ctorch._utils\n_rebuild_tensor_v2\nNR"), STRANGE),
        (Raw(b"ctorch._utils\n_rebuild_parameter\nNR"), "no state dict"),
        (call("torch._utils\n_rebuild_parameter", storage()), "no state dict"),
        (storage(), "no state dict"),
        (call("os\nsystem", "exit"), "no state dict"),
        (3, "no state dict"),
    ],
)
def test_tensors_that_torch_never_saves(entry, words, tmp_path):
    check_one_line(write(tmp_path / "a.ckpt", {"w": entry}, {"0": SIX.tobytes()}), words)


def test_a_stride_of_one_element_is_not_looked_at(tmp_path):
    entry = tensor(shape=(1, 6), strides=(1 << 80, 1))
    path = write(tmp_path / "a.ckpt", {"w": entry}, {"0": SIX.tobytes()})
    np.testing.assert_array_equal(TorchFile(path).read(["w"])["w"], SIX[None])


def test_tensors_are_no_larger_than_the_file(tmp_path):
    many = {str(index): tensor(shape=(9999,), strides=(1,), elements=9999) for index in range(9)}
    path = write(tmp_path / "a.ckpt", many, {"0": bytes(4 * 9999)})
    TorchFile(path).read(["1"])
    check_one_line(path, "larger than the file")


def test_archives_that_torch_never_makes(tmp_path):
    path, contents, storages = tmp_path / "a.ckpt", {"w": tensor()}, {"0": SIX.tobytes()}

    def written(contents=contents, storages=storages, **members):
        return write(path, contents, storages, members)

    check_one_line(tmp_path / "absent.ckpt", "no weights at")
    check_one_line(tmp_path, "no weights at")
    for data in (b"", b"\x80\x02.", pickled(contents), b"PK\x05\x06"):
        path.write_bytes(data)
        check_one_line(path, "not a file that torch.save made")
    check_one_line(written(b"\x80\x02N."), "no state dict")
    check_one_line(written(b"cos\nsystem"), "cannot be read")
    check_one_line(written(bytes(9 << 20)), "more than there are or may be")
    check_one_line(written(**{"archive/byteorder": b"big"}), "byte order is b'big'")
    check_one_line(written(**{"other/data.pkl": b"N."}), "holds 2 pickles")
    check_one_line(written(storages={"0": SIX.tobytes()[:20]}), "has 20 bytes")
    check_one_line(written(storages={}), "is missing")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/version", b"3")
    check_one_line(path, "holds 0 pickles")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(written(), "a") as archive:
        archive.writestr("archive/data/0", SIX.tobytes())
    check_one_line(path, "members of the same name")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickled(contents) + b".")
    check_one_line(path, "compressed")
    whole = written().read_bytes()
    path.write_bytes(whole.replace(SIX.tobytes(), bytes(24)))
    check_one_line(path, "CRC")
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        check_one_line(path, "not a file that torch.save made|cannot be read")


def test_nothing_is_called(tmp_path):
    made = tmp_path / "made"
    contents = {"x": call("os\nsystem", f"touch {made}"), "w": tensor()}
    path = write(tmp_path / "a.ckpt", contents, {"0": SIX.tobytes()})
    np.testing.assert_array_equal(TorchFile(path).read(["w"])["w"], SIX.reshape(2, 3))
    assert not made.exists()


@pytest.mark.parametrize("part", ["file", "pickle"])
def test_random_changes(part, tmp_path):
    """A changed file is read, or refused with one line; a changed pickle within a sound archive too."""
    rng = random.Random(0)
    path, storages = tmp_path / "a.ckpt", {"0": SIX.tobytes(), "1": SIX.tobytes()}
    contents = {"state_dict": {"w": tensor(), "v": tensor(key="1", shape=(6,), strides=(1,))}, "epoch": 3}
    sound = b"\x80\x02" + pickled(contents) + b"."
    if part == "file":
        sound = write(path, contents, storages).read_bytes()
    outcomes = collections.Counter()
    for _ in range(1000):
        data = bytearray(sound)
        for _ in range(rng.choice([1, 1, 2, 5])):
            start = rng.randrange(len(data))
            end = min(len(data), start + rng.choice([0, 1, 1, 4, 30]))
            data[start:end] = rng.randbytes(rng.choice([end - start, end - start, 0, 3]))
        if part == "file":
            path.write_bytes(data)
        else:
            write(path, bytes(data), storages)
        try:
            file = TorchFile(path)
            tensors = file.read(file.names)
            assert all(isinstance(array, np.ndarray) and array.nbytes <= 24 for array in tensors.values())
            outcomes["read"] += 1
        except UserError as error:
            assert str(error).isprintable()
            outcomes["refused"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 50
