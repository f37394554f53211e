"""Prepared documents as a seqio source."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

import seqio
import tensorflow as tf

from cm3leon_jax.data.preprocessors import Features, joined_document, neighbours_of
from cm3leon_jax.data.records import PreparedDocument
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.data.splits import PAIRS, SPLITS, split_name


class PreparedSource(seqio.DataSource):
    """The documents of one kind of prepared data as a seqio source; with `number`, those that came from that source.
    Elements hold int32 vectors "text" (joint ids), "image" (codes), "lengths" (of both, for each pair of them) and
    "neighbours" (places in "train"), and the integers "index", "seed" and "count" (elements in an epoch)."""

    # Of what `read` gives: types and shapes.
    features: ClassVar[dict[str, tuple[tf.DType, list]]] = dict.fromkeys(
        ("text", "image", "lengths", "neighbours"), (tf.int32, [None])
    )

    def __init__(self, data: PreparedData, kind: str = PAIRS, number: int | None = None):
        self._data, self._kind, self._number = data, kind, number
        names = {split: split_name(split, kind) for split in SPLITS}
        self._ranges = {split: self._range(name) for split, name in names.items() if name in data.splits}
        counts = {split: len(places) for split, places in self._ranges.items()}
        # Reading is random access, so there is nothing that an offline cache would make faster.
        super().__init__(splits=tuple(counts), num_input_examples=counts, caching_permitted=False)

    def _range(self, name: str) -> range:
        everything = range(len(self._data.split(name)))
        return everything if self._number is None else self._data.ranges(name)[self._number][0]

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """Names the data itself: every shard of it with its checksum."""
        return {"data": self._data.fingerprint, "kind": self._kind, "number": self._number}

    def list_shards(self, split: str) -> list[str]:
        return [split]

    def document(self, split: str, index: int) -> PreparedDocument:
        return self._data.split(split_name(split, self._kind))[self._ranges[split][index]]

    def read(self, split: str, index: int) -> Features:
        document = self.document(split, index)
        return joined_document(document) | {"neighbours": neighbours_of(document)}

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **_: Any,
    ) -> tf.data.Dataset:
        """Without a seed, everything random differs from call to call."""
        shard, shards = (shard_info.index, shard_info.num_shards) if shard_info else (0, 1)
        indices = range(shard, self.num_input_examples(split), shards)
        key = secrets.randbits(63) if seed is None else int(seed) % 2**63

        def read(index):
            example = self.read(split, int(index))
            return [example[name] for name in self.features]

        def element(index):
            values = tf.numpy_function(read, [index], [dtype for dtype, _ in self.features.values()])
            example = {
                name: tf.ensure_shape(x, shape)
                for (name, (_, shape)), x in zip(self.features.items(), values, strict=True)
            }
            integers = {"index": index, "seed": tf.constant(key, tf.int64)}
            return example | integers | {"count": tf.constant(len(indices), tf.int64)}

        dataset = tf.data.Dataset.range(indices.start, indices.stop, indices.step)
        if shuffle and indices:
            dataset = dataset.shuffle(len(indices), seed=seed)
        return dataset.map(element, num_parallel_calls=tf.data.AUTOTUNE)
