"""Batches of images and captions for training the image tokenizer and the retriever: a pure function of the step."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cm3leon_jax.data.sources.example import BadExample, SourceSplit
from cm3leon_jax.data.sources.images import fit_image
from cm3leon_jax.runtime.errors import UserError


class ImageBatches:
    """`batches(step)` -> (images uint8 [B, R, R, 3], B captions): batch `step` of an endless stream of epochs.

    Each epoch is a permutation of its own, drawn from the seed; a batch may lie across two. A bad example is replaced
    by the next good one of its epoch. A split whose fitted images fit into `memory_limit` bytes is decoded once and
    kept, since small runs read the same images over and over. `UserError` where no example is good.
    """

    def __init__(
        self,
        split: SourceSplit,
        resolution: int,
        batch_size: int,
        seed: int,
        *,
        memory_limit: int = 512 * 2**20,
        threads: int | None = None,
    ):
        if not len(split):
            raise UserError("a split without examples has no batches: add data or choose another split")
        self._split = split
        self._resolution = resolution
        self._batch_size = batch_size
        self._seed = seed
        self._pool = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1))
        self._permutation = functools.lru_cache(maxsize=2)(self._draw_permutation)
        self._bad: dict[int, BadExample] = {}
        keep = len(split) * resolution * resolution * 3 <= memory_limit
        # Pages of the array that are not written yet take no memory.
        self._images = np.empty((len(split), resolution, resolution, 3), np.uint8) if keep else None
        self._captions: dict[int, str] = {}  # of the images that are kept

    def __call__(self, step: int) -> tuple[np.ndarray, list[str]]:
        slots = range(step * self._batch_size, (step + 1) * self._batch_size)
        read: dict[int, tuple[np.ndarray, str]] = {}
        while True:  # once more for every bad example that was met for the first time
            wanted = [self._index(slot) for slot in slots]
            missing = [index for index in dict.fromkeys(wanted) if index not in read and index not in self._captions]
            if not missing:
                break
            for index, example in zip(missing, self._pool.map(self._read, missing), strict=True):
                if isinstance(example, BadExample):
                    self._bad[index] = example
                elif self._images is not None:
                    self._images[index], self._captions[index] = example
                else:
                    read[index] = example
        if self._images is not None:
            return self._images[wanted], [self._captions[index] for index in wanted]
        return np.stack([read[index][0] for index in wanted]), [read[index][1] for index in wanted]

    def _draw_permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._split))

    def _index(self, slot: int) -> int:
        """The example of a slot of the stream: of the slot's epoch, the bad ones that are known passed over."""
        epoch, place = divmod(slot, len(self._split))
        order = self._permutation(epoch)
        for offset in range(len(order)):
            index = int(order[(place + offset) % len(order)])
            if index not in self._bad:
                return index
        raise UserError(f"no example can be used (one of them: {self._bad[index]}): check the source")

    def _read(self, index: int) -> tuple[np.ndarray, str] | BadExample:
        try:
            example = self._split[index]
        except BadExample as bad:
            return bad
        return fit_image(example.image, self._resolution), example.caption
