"""FID's Inception: equal to pytorch-fid's on the same weights and images; other weights are refused by name."""

import numpy as np
import pytest
import safetensors.numpy
from inception_reference import random_tensors, reference_network

from cm3leon_jax.evaluation.fid import inception
from cm3leon_jax.evaluation.fid.inception_weights import params_of
from cm3leon_jax.evaluation.fid.networks import load_inception, load_network
from cm3leon_jax.runtime.errors import UserError


@pytest.fixture(scope="module")
def tensors():
    return random_tensors()


def random_images(*size: int, count: int = 2) -> np.ndarray:
    """Of large and small structures, so that features differ between images."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 200, (count, 4, 4, 3)).repeat(-(-size[0] // 4), 1).repeat(-(-size[1] // 4), 2)
    return (coarse[:, : size[0], : size[1]] + random.integers(0, 56, (count, *size, 3))).astype(np.uint8)


@pytest.mark.parametrize("legacy", [True, False])
def test_equals_pytorch_fid(legacy, tensors, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch, as a reference")
    reference = reference_network(tensors)
    torch.save(reference_state(reference), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    network = load_inception(tmp_path / "a.pth")
    images = random_images(64, 80) if legacy else random_images(400, 320, count=1)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)[0][:, :, 0, 0].numpy()
    found = network(images)
    assert found.dtype == np.float32 and found.shape == (len(images), 2048)
    assert 0.3 < expected.std() < 3
    if legacy:
        assert np.abs(expected[0] - expected[1]).mean() > 0.01
    assert np.abs(found - expected).max() <= 1e-4


def reference_state(reference) -> dict:
    """The tensors of pytorch-fid's network under the names of the published file, counters included."""
    blocks = ("1a_3x3 2a_3x3 2b_3x3", "3b_1x1 4a_3x3", "5b 5c 5d 6a 6b 6c 6d 6e", "7a 7b 7c")
    names = {
        f"{block}.{index}": f"{'Conv2d' if block < 2 else 'Mixed'}_{name}"
        for block, those in enumerate(blocks)
        for index, name in enumerate(those.split())
    }
    state = {}
    for name, tensor in reference.blocks.state_dict().items():
        block, index, rest = name.split(".", 2)
        state[f"{names[f'{block}.{index}']}.{rest}"] = tensor
    return state


@pytest.mark.parametrize("size", [(299, 299), (256, 256), (64, 48), (640, 333)])
def test_images_are_resized_as_pytorch_does_it(size):
    torch = pytest.importorskip("torch", reason="needs PyTorch, as a reference")
    images = random_images(*size)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    resized = torch.nn.functional.interpolate(pixels, size=(299, 299), mode="bilinear", align_corners=False)
    expected = (2 * resized - 1).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(inception.prepare(images), expected, atol=1e-5)


def test_pooling_by_hand():
    """Averages of what lies inside alone; maxima; every second maximum."""
    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1) - 10
    averages = np.asarray(inception.average_pool(x))[0, :, :, 0]
    np.testing.assert_allclose(averages, np.array([[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]]) - 10)
    maxima = np.asarray(inception.max_pool(x))[0, :, :, 0]
    np.testing.assert_array_equal(maxima, np.array([[4, 5, 5], [7, 8, 8], [7, 8, 8]]) - 10)
    np.testing.assert_array_equal(inception.halve(x)[0, :, :, 0], [[-2]])


def test_safetensors_and_the_fingerprint(tensors, tmp_path):
    halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    safetensors.numpy.save_file(halves, tmp_path / "b.safetensors")
    first, again = (load_network("inception", tmp_path / "a.safetensors") for _ in range(2))
    other = load_inception(tmp_path / "b.safetensors")
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert (first.name, first.dim) == ("inception", 2048)
    assert first(np.zeros((0, 64, 64, 3), np.uint8)).shape == (0, 2048)


def changed(tensors, **changes):
    """`None` takes a tensor away."""
    named = {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in (tensors | named).items() if tensor is not None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Mixed_6b__branch1x1__bn__bias": None}, r"lack 'Mixed_6b\.branch1x1\.bn\.bias' \(1 such"),
        ({"AuxLogits__fc__weight": np.zeros(3)}, r"beyond what FID's Inception has, 'AuxLogits\.fc\.weight'"),
        ({"Conv2d_1a_3x3__conv__weight": np.zeros((3, 3, 3, 32))}, r"Conv2d_1a_3x3\.conv\.weight is of shape"),
        ({"fc__weight": np.zeros((1000, 2048))}, r"fc\.weight is of shape \[1000, 2048\], not \[1008, 2048\]"),
        ({"fc__bias": np.zeros(1008, np.int64)}, "kept as int64"),
        ({"Mixed_7c__branch_pool__bn__running_mean": np.full(192, np.nan)}, "not finite"),
    ],
)
def test_other_weights_are_refused(changes, words, tensors):
    with pytest.raises(UserError, match=words):
        params_of(changed(tensors, **changes))


def test_counters_and_the_classifier_may_be_there_or_not(tensors):
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    counted = tensors | {"Conv2d_1a_3x3.bn.num_batches_tracked": np.array(3)}
    for some in (without, counted):
        found, expected = (params_of(those)["Conv2d_1a_3x3"]["conv"]["bias"] for those in (some, tensors))
        np.testing.assert_array_equal(found, expected)


def test_what_is_no_file_of_weights(tmp_path):
    with pytest.raises(UserError, match="no weights at"):
        load_inception(tmp_path / "absent.pth")
    with pytest.raises(UserError, match="no feature network 'vgg'; use 'inception' or 'clip'"):
        load_network("vgg", tmp_path)
