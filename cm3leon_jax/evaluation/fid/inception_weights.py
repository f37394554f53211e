"""The published weights of FID's Inception (`pt_inception-2015-12-05-6726825d.pth` of pytorch-fid) -> our parameters.

Nothing is trained here, so each BatchNorm is folded into the convolution before it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cm3leon_jax.evaluation.fid.inception import abstract_params
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, local_path
from cm3leon_jax.runtime.model_folder import flatten, unflatten
from cm3leon_jax.runtime.tensor_files import find_weights, read_tensors
from cm3leon_jax.runtime.torch_files import SUFFIXES, TorchFile

NORM_EPSILON = 1e-3
_REMEDY = "take pytorch-fid's pt_inception-2015-12-05-6726825d.pth, or its tensors as safetensors"
_FLOATS = ("float32", "float16", "bfloat16", "float64")
_CLASSES = 1008  # torchvision's own Inception, whose features are others, has 1000
# What the features do not need: the classifier (looked at, since it tells whose weights these are) and a counter.
_CLASSIFIER = {"fc.weight": (_CLASSES, 2048), "fc.bias": (_CLASSES,)}
_COUNTER = ".bn.num_batches_tracked"


class _Names(NamedTuple):
    """Of the five tensors of a convolution with its BatchNorm."""

    kernel: str
    scale: str
    shift: str
    mean: str
    variance: str


def read_inception(path: Path) -> dict:
    """A file of `torch.save` or safetensors -> the nested dict of `abstract_params`, float32 numpy arrays.

    Raises `UserError` where a tensor is missing, of another shape, or too much.
    """
    return params_of(_read(local_path(path)))


def params_of(tensors: Mapping[str, np.ndarray]) -> dict:
    """Published tensors -> our nested dict, float32. Raises `UserError` as `read_inception` does."""
    kernels = {path: leaf.shape for path, leaf in flatten(abstract_params()).items() if path.endswith("/kernel")}
    groups = {path: _names(path) for path in kernels}
    due = {name: shape for path, names in groups.items() for name, shape in _shapes(names, kernels[path]).items()}
    _check_names(tensors, due)
    for name, shape in (due | _CLASSIFIER).items():
        if name in tensors:
            _check(name, tensors[name], shape)
    params = {}
    for path, names in groups.items():
        params[path], params[path.replace("/kernel", "/bias")] = _folded(*(tensors[name] for name in names))
    return unflatten(params)


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    if path.suffix not in SUFFIXES:
        return read_tensors(find_weights(path))
    file = TorchFile(path)
    return file.read(file.names)


def _names(path: str) -> _Names:
    """`Mixed_5b/branch1x1/conv/kernel` -> `Mixed_5b.branch1x1.conv.weight` and those of its BatchNorm."""
    module = path.removesuffix("/conv/kernel").replace("/", ".")
    norm = (f"{module}.bn.{name}" for name in ("weight", "bias", "running_mean", "running_var"))
    return _Names(f"{module}.conv.weight", *norm)


def _shapes(names: _Names, kernel: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    height, width, inputs, outputs = kernel
    return {names.kernel: (outputs, inputs, height, width)} | dict.fromkeys(names[1:], (outputs,))


def _check_names(tensors: Mapping[str, np.ndarray], due: Mapping[str, tuple[int, ...]]) -> None:
    missing = [name for name in due if name not in tensors]
    extra = [name for name in tensors if name not in due and name not in _CLASSIFIER and not name.endswith(_COUNTER)]
    for wrong, problem in ((missing, "lack"), (extra, "have, beyond what FID's Inception has,")):
        if wrong:
            raise UserError(f"the weights {problem} {wrong[0]!a} ({len(wrong)} such tensors); {_REMEDY}")


def _check(name: str, tensor: np.ndarray, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise UserError(f"the tensor {name} is of shape {list(tensor.shape)}, not {list(shape)}; {_REMEDY}")
    if tensor.dtype.name not in _FLOATS:
        raise UserError(f"the tensor {name} is kept as {tensor.dtype.name}, not as float32; {_REMEDY}")
    if not np.isfinite(tensor.astype(np.float32)).all():
        raise UserError(f"the tensor {name} holds numbers that are not finite; {_REMEDY}")


def _folded(*tensors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tensors of `_Names` -> kernel [height, width, inputs, outputs] and bias [outputs], float32."""
    kernel, scale, shift, mean, variance = (tensor.astype(np.float64) for tensor in tensors)
    gain = scale / np.sqrt(variance + NORM_EPSILON)
    folded = kernel.transpose(2, 3, 1, 0) * gain
    return np.ascontiguousarray(folded, np.float32), np.asarray(shift - mean * gain, np.float32)
