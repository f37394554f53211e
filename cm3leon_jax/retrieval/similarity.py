"""From which inner product on two documents are the same for an encoder: the number that `selection.py` compares with.

It depends on the encoder. CLIP gives a document and its near copy 0.96, a document and its own image 0.8; an encoder
trained on few images gives 0.9 to all that is of one kind. So it is measured, on near copies of the user's own
documents, and kept with the data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from cm3leon_jax.retrieval.near_copies import near_copy
from cm3leon_jax.retrieval.selection import SelectionConfig

FEWEST = 200  # documents, below which nothing is calibrated
MOST = 2_000
PERCENTILE = 5  # of the scores of near copies
_BATCH = 256


class Encoder(Protocol):
    """What of a `Retriever` is used."""

    def embed_texts(self, texts: Sequence[str], /) -> np.ndarray: ...
    def embed_images(self, images: Sequence[np.ndarray], /) -> np.ndarray: ...
    def combine(self, text: np.ndarray, image: np.ndarray, /) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Similarity:
    """The scores that 95% of near copies exceed. `documents`: of how many, 0: too few to say."""

    threshold: float | None  # with the document itself
    text_threshold: float | None  # of the near copy's caption alone with the document
    documents: int = 0

    def settle(self, selection: SelectionConfig) -> SelectionConfig:
        """The settings, with these numbers where they give none."""
        threshold = self.threshold if selection.threshold is None else selection.threshold
        of_text = self.text_threshold if selection.text_threshold is None else selection.text_threshold
        return dataclasses.replace(selection, threshold=threshold, text_threshold=of_text)


def calibrate(encoder: Encoder, images: Sequence[np.ndarray], captions: Sequence[str], seed: int = 0) -> Similarity:
    """Images uint8 [H, W, 3] and captions of different documents -> the scores of their near copies."""
    if len(images) < FEWEST:
        return Similarity(None, None)
    rng = np.random.default_rng(seed)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(images), _BATCH):
        own, said = images[start : start + _BATCH], captions[start : start + _BATCH]
        copies = [near_copy(image, caption, rng) for image, caption in zip(own, said, strict=True)]
        documents = encoder.combine(encoder.embed_texts(said), encoder.embed_images(own))
        of_captions = encoder.embed_texts([caption for _, caption in copies])
        of_copies = encoder.combine(of_captions, encoder.embed_images([image for image, _ in copies]))
        found.append((np.sum(of_copies * documents, axis=1), np.sum(of_captions * documents, axis=1)))
    threshold, text_threshold = (
        round(float(np.percentile(np.concatenate(scores), PERCENTILE)), 4) for scores in zip(*found, strict=True)
    )
    return Similarity(threshold, text_threshold, len(images))
