"""The image tokenizer as everything else uses it: images -> codes, codes -> images."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from cm3leon_jax.runtime.devices import batch_sharded, local_mesh, map_batches, replicated
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.runtime.model_folder import flatten, load_model, model_fingerprint, save_model
from cm3leon_jax.tokenizers.image.autoencoder import abstract_params, bind, init_params
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
from cm3leon_jax.tokenizers.image.training import to_uint8, to_unit

KIND = "image_tokenizer"
MAKE_WITH = "cm3leon train-image-tokenizer"


class ImageTokenizer:
    """A trained VQGAN. `fingerprint` names its exact weights ("" for one that is not on disk)."""

    def __init__(self, config: ImageTokenizerConfig, params: dict, *, fingerprint: str = "", batch_size: int = 64):
        self.config, self.fingerprint = config, fingerprint
        self._batch_size = batch_size
        self._mesh = local_mesh()
        self._params = jax.device_put(params, replicated(self._mesh))

        def encode(params: dict, images: jax.Array) -> jax.Array:
            return bind(config, params).encode(to_unit(images))

        def decode(params: dict, codes: jax.Array) -> jax.Array:
            module = bind(config, params)
            vectors = module.quantize.vectors(codes).reshape(len(codes), *config.grid, config.code_dim)
            return to_uint8(module.decode(vectors))

        self._encode = jax.jit(encode, out_shardings=batch_sharded(self._mesh))
        self._decode = jax.jit(decode, out_shardings=batch_sharded(self._mesh))

    @classmethod
    def load(cls, directory: Path, *, batch_size: int = 64) -> ImageTokenizer:
        """Reads a model folder. `batch_size` images are handled at a time. Raises `UserError`."""
        config, params = load_model(directory, kind=KIND, config_type=ImageTokenizerConfig, make_with=MAKE_WITH)
        expected = {name: leaf.shape for name, leaf in flatten(abstract_params(config)).items()}
        if expected != {name: leaf.shape for name, leaf in flatten(params).items()}:
            raise UserError(f"the weights in {directory} do not fit the config beside them; `{MAKE_WITH}` again")
        return cls(config, params, fingerprint=model_fingerprint(directory), batch_size=batch_size)

    def save(self, directory: Path) -> None:
        """Writes a model folder, whole or not at all; `load` gives the same codes for the same images."""
        config = dataclasses.replace(self.config, compute_dtype=self.config.dtype)
        save_model(directory, kind=KIND, config=config, params=self.params)
        self.fingerprint = model_fingerprint(directory)

    def with_params(self, params: dict) -> ImageTokenizer:
        """The same compiled functions with other weights of the same shapes."""
        other = object.__new__(ImageTokenizer)
        other.__dict__.update(self.__dict__)
        other.fingerprint = ""
        other._params = jax.device_put(params, replicated(self._mesh))
        return other

    @property
    def tokens_per_image(self) -> int:
        return self.config.tokens_per_image

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns); tokens run row by row from the top left."""
        return self.config.grid

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def num_codes(self) -> int:
        return self.config.num_codes

    @property
    def params(self) -> dict:
        """The parameters in the tree of `abstract_params`, as float32 numpy arrays."""
        return jax.device_get(self._params)

    @property
    def codebook(self) -> np.ndarray:
        """Code vectors, float32 [K, C]."""
        return np.asarray(self._params["quantize"]["embedding"])

    def encode(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, R, R, 3] -> int32 [N, T]. Raises `ValueError` on another shape or type."""
        images = np.asarray(images)
        expected = (self.resolution, self.resolution, 3)
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise ValueError(f"images are {images.dtype} {images.shape}; expected uint8 [N, {expected}]")
        return self._map(self._encode, images, np.zeros((0, self.tokens_per_image), np.int32))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """int [N, T] -> uint8 [N, R, R, 3]. Raises `ValueError` on another shape or a code out of range."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != self.tokens_per_image:
            raise ValueError(f"codes are {codes.shape}; expected [N, {self.tokens_per_image}]")
        if codes.size and not 0 <= codes.min() <= codes.max() < self.num_codes:
            raise ValueError(f"codes run from {codes.min()} to {codes.max()}; expected 0 to {self.num_codes - 1}")
        empty = np.zeros((0, self.resolution, self.resolution, 3), np.uint8)
        return self._map(self._decode, codes.astype(np.int32), empty)

    def _map(self, function, rows: np.ndarray, empty: np.ndarray) -> np.ndarray:
        if not len(rows):
            return empty
        # Batches are powers of two, so that few rows cost little and only a handful of shapes are ever compiled.
        batch_size = min(self._batch_size, 1 << (len(rows) - 1).bit_length())
        return map_batches(lambda batch: function(self._params, batch), rows, batch_size=batch_size, mesh=self._mesh)


def untrained(config: ImageTokenizerConfig) -> ImageTokenizer:
    """A tokenizer to call `with_params` on."""
    return ImageTokenizer(config, init_params(config, seed=0))
