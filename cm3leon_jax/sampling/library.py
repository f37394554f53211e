"""Retrieval at inference: the documents of the memory bank that stand before a prompt (CM3Leon §2.1).

They are found by the caption's embedding, chosen by the rules of training, and taken in the order of relevance.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from cm3leon_jax.documents import Document
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.retrieval.memory_bank import NOTHING, MemoryBank
from cm3leon_jax.retrieval.neighbours import neighbours_of
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer


class StoredDocument(Protocol):
    """What is read of a prepared document."""

    @property
    def caption(self) -> str: ...
    @property
    def text(self) -> np.ndarray: ...
    @property
    def image(self) -> np.ndarray: ...


class Shelf(Protocol):
    """The documents of the memory bank, by the bank's ids."""

    def __getitem__(self, index: int, /) -> StoredDocument: ...


class RetrievedDocument:
    """A document of the memory bank: for a prompt (`document`) and to be looked at (`caption`, `image`)."""

    def __init__(self, stored: StoredDocument, image_tokenizer: ImageTokenizer):
        self.caption = stored.caption
        self.document = Document(stored.text, stored.image)
        self._image_tokenizer = image_tokenizer

    @functools.cached_property
    def image(self) -> np.ndarray:
        """uint8 [R, R, 3]: decoded when it is first asked for."""
        return self._image_tokenizer.decode(self.document.image[None])[0]


class Library:
    """A retriever, the memory bank that it made, and the documents in it."""

    def __init__(
        self,
        retriever: Retriever,
        bank: MemoryBank,
        shelf: Shelf,
        image_tokenizer: ImageTokenizer,
        selection: SelectionConfig | None = None,
    ):
        """`selection`: the rules by which documents are chosen; of how many are wanted, `retrieve` is told."""
        self._selection = selection or SelectionConfig()
        self._retriever = retriever
        self._bank = bank
        self._shelf = shelf
        self._image_tokenizer = image_tokenizer

    def retrieve(self, texts: Sequence[str], count: int) -> list[list[RetrievedDocument]]:
        """For each text at most `count` documents, best first: fewer where the rules of selection leave fewer."""
        if not count or not texts:
            return [[] for _ in texts]
        found = neighbours_of(
            self._bank,
            text_queries=self._retriever.embed_texts(texts),
            config=dataclasses.replace(self._selection, by_image=0, by_text=count),
        )
        return [
            [RetrievedDocument(self._shelf[int(index)], self._image_tokenizer) for index in row if index != NOTHING]
            for row in found.by_text
        ]
