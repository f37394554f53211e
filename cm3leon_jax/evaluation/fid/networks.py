"""Feature networks: images -> a vector each, of which distances are measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax
import numpy as np

from cm3leon_jax.evaluation.fid import inception
from cm3leon_jax.evaluation.fid.inception_weights import read_inception
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.runtime.devices import local_mesh, map_batches, replicated
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, fingerprint
from cm3leon_jax.runtime.model_folder import flatten

INCEPTION, CLIP = "inception", "clip"


class FeatureNetwork(Protocol):
    """`fingerprint` names the exact weights; "" where they are not known."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3] -> float32 [N, dim]."""


class InceptionFeatures:
    """FID's Inception with the parameters of `inception.abstract_params`, on the devices of this process.

    `batch_size` is the most images that are handled at once.
    """

    name, dim = INCEPTION, inception.DIM

    def __init__(self, params: dict, batch_size: int = 64):
        arrays = sorted(flatten(params).items())
        self.fingerprint = fingerprint(*(part for name, array in arrays for part in (name, array.tobytes())))
        self._batch_size = batch_size
        self._mesh = local_mesh()
        self._params = jax.device_put(params, replicated(self._mesh))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if not len(images):
            return np.zeros((0, self.dim), np.float32)
        # Powers of two, so that few images cost little and only a handful of shapes are compiled.
        size = min(self._batch_size, 1 << (len(images) - 1).bit_length())
        return map_batches(self._features, images, batch_size=size, mesh=self._mesh)

    def _features(self, images: jax.Array) -> jax.Array:
        return inception.features(self._params, inception.prepare(images))


class ClipFeatures:
    """A retriever's image embeddings, of unit length."""

    name = CLIP

    def __init__(self, retriever: Retriever):
        self._retriever = retriever
        self.fingerprint, self.dim = retriever.fingerprint, retriever.dim

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._retriever.embed_images(images)


def load_inception(path: Path, *, batch_size: int = 64) -> InceptionFeatures:
    """FID's network from pytorch-fid's `pt_inception-2015-12-05-6726825d.pth`, or the same tensors as safetensors.
    Raises `UserError`."""
    return InceptionFeatures(read_inception(path), batch_size)


def clip_features(retriever: Retriever) -> ClipFeatures:
    """CMMD as published (Jayasumana et al. 2024) takes CLIP ViT-L/14 at 336 pixels; any retriever works."""
    return ClipFeatures(retriever)


_LOADERS: dict[str, Callable[[Path, int], FeatureNetwork]] = {
    INCEPTION: lambda weights, batch_size: load_inception(weights, batch_size=batch_size),
    CLIP: lambda weights, batch_size: clip_features(Retriever.load(weights, batch_size)),
}


def load_network(name: str, weights: Path, *, batch_size: int = 64) -> FeatureNetwork:
    """`inception` with a file of weights, or `clip` with a retriever's model folder. Raises `UserError`."""
    if name not in _LOADERS:
        raise UserError(f"there is no feature network {name!r}; use {' or '.join(map(repr, _LOADERS))}")
    return _LOADERS[name](weights, batch_size)
