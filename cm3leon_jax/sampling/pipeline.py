"""A decoder with its tokenizers, and the memory bank if there is one: texts and pictures in, pictures and texts out."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import jax
import numpy as np

from cm3leon_jax.documents import Document
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params, logical_axes
from cm3leon_jax.model.folder import load_decoder
from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.retrieval.memory_bank import MemoryBank
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.sampling import best_of, prompts
from cm3leon_jax.sampling.generate import Generation, generate
from cm3leon_jax.sampling.library import Library, RetrievedDocument
from cm3leon_jax.sampling.prompts import Prompt
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
from cm3leon_jax.tokenizers.text import TextTokenizer
from cm3leon_jax.vocabulary import Vocabulary

Retrieved = int | Sequence[Sequence[RetrievedDocument]]  # how many documents to retrieve, or those of `retrieve`


class Generator:
    """Draws from a decoder. Images are uint8 [R, R, 3] at the image tokenizer's resolution."""

    def __init__(
        self,
        config: DecoderConfig,
        vocabulary: Vocabulary,
        params: Params,
        text_tokenizer: TextTokenizer,
        image_tokenizer: ImageTokenizer,
        *,
        retriever: Retriever | None = None,
        library: Library | None = None,
        partitioning: Partitioning | None = None,
        batch_size: int = 64,
    ):
        """`retriever` chooses the best of several pictures, `library` finds documents; both may be missing.

        `batch_size` samples are drawn at once over the devices of `partitioning` (default: a copy on each).
        """
        if (vocabulary.text_size, vocabulary.image_size) != (text_tokenizer.size, image_tokenizer.num_codes):
            raise UserError(
                f"the model was trained on {vocabulary.text_size} text pieces and {vocabulary.image_size} image codes, "
                f"the tokenizers have {text_tokenizer.size} and {image_tokenizer.num_codes}; name those of the model"
            )
        self.config, self.vocabulary = config, vocabulary
        self.text_tokenizer, self.image_tokenizer = text_tokenizer, image_tokenizer
        self.retriever, self.library = retriever, library
        self._partitioning = partitioning or Partitioning(make_mesh(MeshConfig()))
        self._params = self._placed(params)
        self._batch_size = batch_size

    @classmethod
    def load(
        cls,
        decoder: Path,
        text_tokenizer: Path,
        image_tokenizer: Path,
        *,
        retriever: Path | None = None,
        prepared: Path | None = None,
        partitioning: Partitioning | None = None,
        batch_size: int = 64,
    ) -> Generator:
        """Reads model folders. Documents can be retrieved with `prepared` data and the `retriever` that it was made
        with. Raises `UserError`."""
        text, image = TextTokenizer.load(text_tokenizer), ImageTokenizer.load(image_tokenizer)
        encoder = Retriever.load(retriever) if retriever else None
        return cls(
            *load_decoder(decoder),
            text,
            image,
            retriever=encoder,
            library=_open_library(prepared, encoder, text, image) if prepared else None,
            partitioning=partitioning,
            batch_size=batch_size,
        )

    def with_params(self, params: Params) -> Generator:
        """The same with other weights: for samples during training."""
        other = copy.copy(self)
        other._params = self._placed(params)
        return other

    def _placed(self, params: Params) -> Params:
        return jax.device_put(params, self._partitioning.tree(logical_axes(self.config)))

    def retrieve(self, texts: Sequence[str], count: int) -> list[list[RetrievedDocument]]:
        """For each text at most `count` documents of the memory bank, best first."""
        if count and self.library is None:
            raise UserError("documents are retrieved from prepared data with its retriever: name both, or retrieve 0")
        return self.library.retrieve(texts, count) if self.library else [[] for _ in texts]

    def text_to_image(
        self,
        texts: Sequence[str],
        *,
        retrieved: Retrieved = 0,
        n: int = 1,
        sampling: SamplingConfig | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """Draws n pictures of each text -> uint8 [N, n, R, R, 3]. With a `label` a progress bar is shown."""
        asked = [
            prompts.text_to_image(
                self.text_tokenizer.encode(text),
                documents,
                image_tokens=self.image_tokenizer.tokens_per_image,
                vocabulary=self.vocabulary,
            )
            for text, documents in zip(texts, self._documents(texts, retrieved), strict=True)
        ]
        images = self._decoded(self._generate(asked, sampling, n, label))
        return images.reshape(len(texts), n, *images.shape[1:])

    def best_of(self, texts: Sequence[str], pictures: np.ndarray) -> np.ndarray:
        """Of n pictures of each text, uint8 [N, n, R, R, 3], the one that CLIP finds closest to it: [N, R, R, 3]."""
        if self.retriever is None:
            raise UserError("CLIP chooses among several pictures: name a retriever, or draw one picture of each text")
        return best_of.choose_best(pictures, best_of.clip_scores(self.retriever, texts, pictures))

    def image_to_text(
        self,
        images: np.ndarray,
        *,
        sampling: SamplingConfig | None = None,
        max_text: int = 64,
        label: str | None = None,
    ) -> list[str]:
        """uint8 [N, R, R, 3] -> a text each, of at most `max_text` tokens."""
        asked = [
            prompts.image_to_text(codes, [], max_text=max_text, vocabulary=self.vocabulary)
            for codes in self.image_tokenizer.encode(images)
        ]
        results = self._generate(asked, sampling, 1, label)
        return [self.text_tokenizer.decode(result.text) for result in results]

    def fill_image(
        self,
        texts: Sequence[str],
        images: np.ndarray,
        hidden: np.ndarray,
        *,
        retrieved: Retrieved = 0,
        sampling: SamplingConfig | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """Draws anew the cells of each picture's token grid that are `hidden` (bool [N, rows, columns], see
        `hidden_cells`), given the rest of the picture and the text -> uint8 [N, R, R, 3]."""
        hidden = np.asarray(hidden, bool)
        if hidden.shape != (len(texts), *self.image_tokenizer.grid):
            raise UserError(f"the mask is {hidden.shape}; it must be {(len(texts), *self.image_tokenizer.grid)}")
        codes, documents = self.image_tokenizer.encode(images), self._documents(texts, retrieved)
        asked = [
            prompts.fill_image(
                self.text_tokenizer.encode(text), image, mask.reshape(-1), docs, vocabulary=self.vocabulary
            )
            for text, image, mask, docs in zip(texts, codes, hidden, documents, strict=True)
        ]
        return self._decoded(self._generate(asked, sampling, 1, label))

    def _documents(self, texts: Sequence[str], retrieved: Retrieved) -> list[list[Document]]:
        found = self.retrieve(texts, retrieved) if isinstance(retrieved, int) else retrieved
        return [[one.document for one in documents] for documents in found]

    def _generate(
        self, asked: Sequence[Prompt], sampling: SamplingConfig | None, samples: int, label: str | None
    ) -> list[Generation]:
        return generate(
            self._params,
            self.config,
            self.vocabulary,
            asked,
            sampling or SamplingConfig(),
            samples=samples,
            batch_size=self._batch_size,
            partitioning=self._partitioning,
            label=label,
        )

    def _decoded(self, results: Sequence[Generation]) -> np.ndarray:
        codes = np.array([result.image for result in results], np.int32)
        return self.image_tokenizer.decode(codes.reshape(-1, self.image_tokenizer.tokens_per_image))


def hidden_cells(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Pixels that are to be hidden, bool [H, W] -> bool [rows, columns] of the token grid: every cell that they touch.

    H and W are multiples of the grid's.
    """
    rows, columns = grid
    height, width = mask.shape
    cells = np.asarray(mask, bool).reshape(rows, height // rows, columns, width // columns)
    return np.logical_or.reduce(cells, axis=(1, 3))


def _open_library(prepared: Path, retriever: Retriever | None, text: TextTokenizer, image: ImageTokenizer) -> Library:
    # Here alone: drawing without documents needs no record files.
    from cm3leon_jax.data.shards import BANK_SPLIT, PreparedData

    if retriever is None:
        raise UserError(f"documents in {prepared} are found by a retriever; name the one that they were prepared with")
    data = PreparedData(prepared)
    data.check(text=text.fingerprint, image=image.fingerprint, retriever=retriever.fingerprint)
    bank = MemoryBank.load(data.memory_bank_directory, encoder_fingerprint=retriever.fingerprint)
    return Library(retriever, bank, data.split(BANK_SPLIT), image)
