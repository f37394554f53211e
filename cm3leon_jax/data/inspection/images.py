"""The images of documents as the model sees them: decoded from their codes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from cm3leon_jax.data.records import PreparedDocument


class ImageDecoder(Protocol):
    """What of an image tokenizer is needed here."""

    @property
    def grid(self) -> tuple[int, int]: ...

    def decode(self, codes: np.ndarray, /) -> np.ndarray: ...


class DecodedImages:
    """Decodes each image once. Without a decoder, and of codes that are no whole image, there is no picture."""

    def __init__(self, decoder: ImageDecoder | None):
        self._decoder = decoder
        self._known: dict[bytes, np.ndarray] = {}

    def add(self, documents: Iterable[PreparedDocument]) -> None:
        """Decodes all images of some documents together, which is quicker than one by one."""
        self._decode([part.image for document in documents for part in document.documents])

    def of(self, codes: np.ndarray) -> np.ndarray | None:
        """Codes [N] -> uint8 [H, W, 3]."""
        self._decode([codes])
        return self._known.get(_key(codes))

    def _decode(self, many: list[np.ndarray]) -> None:
        if self._decoder is None:
            return
        rows, columns = self._decoder.grid
        new = {_key(codes): codes for codes in many if len(codes) == rows * columns and _key(codes) not in self._known}
        if new:
            images = self._decoder.decode(np.stack(list(new.values())))
            self._known |= dict(zip(new, images, strict=True))


def _key(codes: np.ndarray) -> bytes:
    return np.asarray(codes, np.int32).tobytes()
