"""What is drawn: a decoder's sizes and prompts, the same for every program. Numpy alone."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class SamplingCase:
    """A decoder, and the images that it draws at once from texts of equal length."""

    layers: int
    d_model: int
    heads: int
    text_size: int
    image_codes: int
    image_tokens: int
    text_tokens: int
    rows: int = 4  # images at once; guidance reads each twice
    guidance_scale: float = 3.0
    top_p: float = 0.9

    @property
    def tokens(self) -> int:
        """Image tokens of one call."""
        return self.rows * self.image_tokens

    def texts(self) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        return [rng.integers(3, self.text_size, self.text_tokens).astype(np.int32) for _ in range(self.rows)]


SIZES = {
    "demo": SamplingCase(4, 128, 4, text_size=512, image_codes=512, image_tokens=64, text_tokens=30),
    "d512": SamplingCase(8, 512, 8, text_size=4096, image_codes=8192, image_tokens=256, text_tokens=62),
    "350m": SamplingCase(24, 1024, 16, text_size=56_320, image_codes=8192, image_tokens=1024, text_tokens=126),
    "760m": SamplingCase(24, 1536, 16, text_size=56_320, image_codes=8192, image_tokens=1024, text_tokens=126),
}
