"""Weights for FID's Inception under their published names, and pytorch-fid's network to compare with."""

import functools
import os
import sys
import types
from unittest import mock

import numpy as np
import pytest

from cm3leon_jax.evaluation.fid.inception import abstract_params
from cm3leon_jax.runtime.model_folder import flatten


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Published names -> float32 arrays such that activations stay of order one through all layers."""
    random = np.random.default_rng(seed)
    tensors = {}
    for path, leaf in flatten(abstract_params()).items():
        if not path.endswith("/kernel"):
            continue
        height, width, inputs, outputs = leaf.shape
        module = path.removesuffix("/conv/kernel").replace("/", ".")
        kernel = random.standard_normal((outputs, inputs, height, width)) * (2 / (inputs * height * width)) ** 0.5
        tensors |= {
            f"{module}.conv.weight": kernel,
            f"{module}.bn.weight": random.uniform(0.8, 1.2, outputs),
            f"{module}.bn.bias": random.normal(0, 0.1, outputs),
            f"{module}.bn.running_mean": random.normal(0, 0.1, outputs),
            f"{module}.bn.running_var": random.uniform(0.8, 1.25, outputs),
        }
    tensors |= {"fc.weight": np.zeros((1008, 2048)), "fc.bias": np.zeros(1008)}
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


@functools.cache
def pytorch_fid() -> types.SimpleNamespace:
    """pytorch-fid's modules `inception` and `fid_score`; skips the test where they are missing.

    They are looked for in the folder that CM3LEON_REFERENCES names, too. torchvision, which they need, is forgotten
    afterwards: a build of it that does not fit the PyTorch would be found by transformers, and break it.
    """
    torch = pytest.importorskip("torch", reason="needs PyTorch, as a reference")
    before, folders = set(sys.modules), filter(None, [os.environ.get("CM3LEON_REFERENCES")])
    # Inception uses none of torchvision's compiled operators, which do not load beside every PyTorch.
    with (
        mock.patch.object(sys, "path", [*sys.path, *folders]),
        mock.patch.object(torch.library, "register_fake", lambda *_, **__: lambda function: function),
    ):
        pytest.importorskip("torchvision", reason="needs torchvision, of which pytorch-fid is made")
        reason = "needs pytorch-fid, as a reference"
        modules = {
            name: pytest.importorskip(f"pytorch_fid.{name}", reason=reason) for name in ("inception", "fid_score")
        }
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "torchvision":
            del sys.modules[name]
    return types.SimpleNamespace(**modules)


def reference_network(tensors: dict[str, np.ndarray]):
    """pytorch-fid's whole path from images in 0..1 to pooled features, with these weights in place of a download."""
    package, torch = pytorch_fid().inception, pytest.importorskip("torch")
    state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    with mock.patch.object(package, "load_state_dict_from_url", lambda *_, **__: state):
        return package.InceptionV3().eval()
