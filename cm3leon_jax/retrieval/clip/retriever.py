"""A CLIP, trained here or imported, with its text tokenizer: captions and images -> unit vectors."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from cm3leon_jax.retrieval.clip.config import ClipConfig
from cm3leon_jax.retrieval.clip.encoders import bind
from cm3leon_jax.retrieval.clip.inputs import kept_patches, resize, tokenize
from cm3leon_jax.retrieval.clip.tokenizer import MAKE_WITH, CaptionTokenizer, load_tokenizer
from cm3leon_jax.runtime.devices import map_batches, replicated
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, fingerprint, new_directory
from cm3leon_jax.runtime.model_folder import load_model, model_fingerprint, save_model

KIND = "retriever"
TOKENIZER_FOLDER = "text_tokenizer"


class Retriever:
    """Embeds with the devices of this process, so the processes of a pod can embed different documents.

    `batch_size` is the most texts or images that are embedded at once.
    """

    def __init__(
        self,
        config: ClipConfig,
        params: dict,
        tokenizer: CaptionTokenizer,
        fingerprint: str = "",
        batch_size: int = 256,
    ):
        self.config = config
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint
        self.batch_size = batch_size
        self._mesh = Mesh(np.asarray(jax.local_devices()), ("data",), axis_types=(AxisType.Auto,))
        self._params = jax.device_put(params, replicated(self._mesh))

    @classmethod
    def load(cls, directory: Path, batch_size: int = 256) -> Retriever:
        """Reads a model folder that `save` wrote; nothing outside it is needed. Raises `UserError`."""
        directory = as_path(directory)
        config, params = load_model(directory, kind=KIND, config_type=ClipConfig, make_with=MAKE_WITH)
        tokenizer = load_tokenizer(directory / TOKENIZER_FOLDER)
        if tokenizer.size != config.vocab_size:
            raise UserError(
                f"the retriever in {directory} knows {config.vocab_size} text pieces and its tokenizer has "
                f"{tokenizer.size}; `{MAKE_WITH}` again"
            )
        name = fingerprint(model_fingerprint(directory), tokenizer.fingerprint)
        return cls(config, params, tokenizer, name, batch_size)

    def save(self, directory: Path) -> None:
        """Writes the model folder, with a copy of the text tokenizer inside, whole or not at all."""
        with new_directory(directory) as aside:
            config = dataclasses.replace(self.config, compute_dtype=self.config.dtype)
            save_model(aside, kind=KIND, config=config, params=jax.device_get(self._params))
            self.tokenizer.save(aside / TOKENIZER_FOLDER)

    @property
    def dim(self) -> int:
        return self.config.embedding_dim

    def embed_texts(self, texts: Sequence[str], drop_tokens: float = 0.0, seed: int = 0) -> np.ndarray:
        """-> float32 [N, D], unit norm. `drop_tokens` leaves out that share of each text's tokens, drawn by `seed`
        and row: query dropout, 0.2 for training queries (CM3Leon §2.1)."""
        tokens, lengths = tokenize(texts, self.tokenizer, self.config.context_length, drop_tokens, seed)
        return self._embed(functools.partial(_embed_texts, config=self.config), tokens, lengths)

    def embed_images(
        self, images: np.ndarray | Sequence[np.ndarray], drop_patches: float = 0.0, seed: int = 0
    ) -> np.ndarray:
        """uint8 [N, H, W, 3], or a list of images of any sizes -> float32 [N, D], unit norm. `drop_patches` leaves
        out that share of each image's patches, as `drop_tokens` does for texts."""
        arrays = [resize(images, self.config.image_resolution)]
        if drop_patches and len(images):
            arrays.append(kept_patches(len(images), self.config.num_patches, drop_patches, seed))
        return self._embed(functools.partial(_embed_images, config=self.config), *arrays)

    @staticmethod
    def combine(text: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Embeddings [N, D] of a document's text and image -> the document's, unit norm: their normalised mean
        (CM3Leon §2.1). A row of zeros says that the document has no such part."""
        mean = (np.asarray(text, np.float32) + np.asarray(image, np.float32)) / 2
        return mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)

    def _embed(self, function, *arrays: np.ndarray) -> np.ndarray:
        count = len(arrays[0])
        if not count:
            return np.zeros((0, self.dim), np.float32)
        # Powers of two, so that few shapes are compiled and a single query does not cost a whole batch.
        batch_size = min(self.batch_size, 1 << (count - 1).bit_length())
        bound = functools.partial(function, self._params)
        return map_batches(bound, *arrays, batch_size=batch_size, mesh=self._mesh)


@functools.partial(jax.jit, static_argnames="config")
def _embed_texts(params: dict, tokens: jax.Array, lengths: jax.Array, *, config: ClipConfig) -> jax.Array:
    return normalized(bind(params, config).text(tokens, lengths))


@functools.partial(jax.jit, static_argnames="config")
def _embed_images(params: dict, images: jax.Array, kept: jax.Array | None = None, *, config: ClipConfig) -> jax.Array:
    return normalized(bind(params, config).image(images, kept))


def normalized(x_BxD: jax.Array) -> jax.Array:
    return x_BxD / jnp.maximum(jnp.linalg.norm(x_BxD, axis=-1, keepdims=True), 1e-12)
