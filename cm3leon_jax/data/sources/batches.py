"""Batches of images and captions for training the image tokenizer and the retriever: a pure function of the step."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cm3leon_jax.data.sources.example import BadExample, SourceSplit
from cm3leon_jax.data.sources.images import fit_image
from cm3leon_jax.data.sources.order import Order
from cm3leon_jax.data.sources.several import shares_of
from cm3leon_jax.runtime.errors import UserError


class ImageBatches:
    """`batches(step)` -> (images uint8 [B, R, R, 3], B captions): batch `step` of an endless stream of epochs. Of a
    document with several images the first is taken.

    `Order` says which come when; a batch may lie across two epochs. A bad example is replaced by the next good one of
    its epoch. A split whose fitted images fit into `memory_limit` bytes is decoded once and kept, since small runs read
    the same images over and over. `UserError` where no example is good.
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
        self._pool = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1))
        self._order = Order(shares_of(split), seed)
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

    def _index(self, slot: int) -> int:
        """The example of a slot of the stream; a bad one that is known is passed over."""
        for index in self._order.candidates(slot):
            if index not in self._bad:
                return index
        raise UserError(f"no example can be used (one of them: {self._bad[index]}): check the source")

    def _read(self, index: int) -> tuple[np.ndarray, str] | BadExample:
        try:
            example = self._split[index]
        except BadExample as bad:
            return bad
        image = next((image for _, image in example.pairs if image.size), None)
        if image is None:
            return BadExample(example.id, "a document without an image")
        return fit_image(image, self._resolution), example.caption
