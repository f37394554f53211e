"""From captions and images to what the encoders take, on the host; and what query dropout leaves of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from cm3leon_jax.retrieval.clip.tokenizer import CaptionTokenizer
from cm3leon_jax.vocabulary import PAD_ID


def tokenize(
    texts: Sequence[str], tokenizer: CaptionTokenizer, context_length: int, drop: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """-> ids int32 [N, context_length], padded, and lengths int32 [N]. The tokenizer's end token ends each text, and
    its start token, where it has one, begins it; longer texts are cut between the two.

    `drop` is the share of each text's tokens to leave out (query dropout, CM3Leon §2.1); one is always kept.
    """
    tokens = np.full((len(texts), context_length), PAD_ID, np.int32)
    lengths = np.zeros(len(texts), np.int32)
    start = [] if tokenizer.start_id is None else [tokenizer.start_id]
    for row, text in enumerate(texts):
        ids = tokenizer.encode(text)[: context_length - 1 - len(start)]
        if drop and len(ids):
            ids = ids[kept(len(ids), drop, np.random.default_rng((seed, row)))]
        sequence = [*start, *ids, tokenizer.end_id]
        tokens[row, : len(sequence)] = sequence
        lengths[row] = len(sequence)
    return tokens, lengths


def kept_patches(count: int, num_patches: int, drop: float, seed: int) -> np.ndarray:
    """Which patches of `count` images are looked at: int32 [count, kept], the same number for each image."""
    rows = [kept(num_patches, drop, np.random.default_rng((seed, row))) for row in range(count)]
    return np.stack(rows).astype(np.int32)


def kept(count: int, drop: float, random: np.random.Generator) -> np.ndarray:
    """Sorted indices of what remains of `count` things when the share `drop` of them is left out, at least one."""
    if not 0 <= drop < 1:
        raise ValueError(f"a dropout of {drop} is not a share in [0, 1)")
    remaining = max(1, count - round(count * drop))
    return np.sort(random.permutation(count)[:remaining])


def resize(images: np.ndarray | Sequence[np.ndarray], resolution: int) -> np.ndarray:
    """uint8 images [N, H, W, 3], or N images of different sizes -> uint8 [N, resolution, resolution, 3].

    As OpenAI's CLIP: the shorter side is made `resolution` (bicubic, antialiased; the longer one is rounded down), then
    the centre is cut out.
    """
    if isinstance(images, np.ndarray) and images.shape[1:] == (resolution, resolution, 3):
        return images
    if not len(images):
        return np.zeros((0, resolution, resolution, 3), np.uint8)
    return np.stack([_resize_one(image, resolution) for image in images])


def _resize_one(image: np.ndarray, resolution: int) -> np.ndarray:
    height, width = image.shape[:2]
    shorter = min(height, width)
    size = (width * resolution // shorter, height * resolution // shorter)
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = (size[1] - resolution) // 2, (size[0] - resolution) // 2
    return resized[top : top + resolution, left : left + resolution]
