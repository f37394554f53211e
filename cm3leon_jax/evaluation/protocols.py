"""What the evaluation needs of the models: `sampling.pipeline.Generator`, or any object with these methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cm3leon_jax.sampling.rules import SamplingConfig


class RetrievedDocument(Protocol):
    """A document of the memory bank, as it is shown."""

    @property
    def caption(self) -> str: ...

    @property
    def image(self) -> np.ndarray:
        """uint8 [R, R, 3]."""


class Generator(Protocol):
    """A decoder with its tokenizers and its memory bank."""

    def retrieve(self, texts: Sequence[str], count: int) -> Sequence[Sequence[Any]]:
        """For each text at most `count` documents of the memory bank (`RetrievedDocument`), best first."""

    def text_to_image(
        self,
        texts: Sequence[str],
        *,
        retrieved: Sequence[Sequence[Any]],
        n: int,
        sampling: SamplingConfig,
        label: str | None = None,
    ) -> np.ndarray:
        """-> uint8 [texts, n, R, R, 3]; `retrieved` as `retrieve` gives it. With a `label` a progress bar is shown."""

    def image_to_text(self, images: np.ndarray, *, sampling: SamplingConfig, label: str | None = None) -> list[str]:
        """uint8 [N, R, R, 3] -> a caption each."""

    def fill_image(
        self,
        texts: Sequence[str],
        images: np.ndarray,
        hidden: np.ndarray,
        *,
        sampling: SamplingConfig,
        label: str | None = None,
    ) -> np.ndarray:
        """Draws the tokens where `hidden` (bool [N, rows, columns] of the token grid) -> uint8 [N, R, R, 3]."""


class Tokenizer(Protocol):
    """An image tokenizer."""

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of tokens."""

    @property
    def num_codes(self) -> int: ...

    def encode(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, R, R, 3] -> int [N, T]."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The way back."""
