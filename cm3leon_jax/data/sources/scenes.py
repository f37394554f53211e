"""The embedded data set as a source: random access into what `cm3leon scenes` rendered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from cm3leon_jax.data.scenes.builder import MAKE_WITH, open_scenes
from cm3leon_jax.data.scenes.examples import SPLITS
from cm3leon_jax.data.sources.entries import HeldOut
from cm3leon_jax.data.sources.example import BadExample, SourceExample, require_split
from cm3leon_jax.data.sources.images import UnreadableImage, decode_image
from cm3leon_jax.data.sources.split_shards import SplitShard, shards_of_splits
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint


def scenes_source(path: str, held_out: HeldOut) -> ScenesSource:
    """Scenes come with their own splits."""
    del held_out
    return ScenesSource(path)


class ScenesSource:
    """`scenes:DATA_DIR`. Metadata is {"scene": its exact description, "facts": what the caption states}, as JSON."""

    splits = SPLITS

    def __init__(self, path: str):
        self.name = f"scenes:{path}"
        self._builder = open_scenes(path)

    def split(self, name: str) -> ScenesSplit:
        require_split(self, name)
        return ScenesSplit(self._builder, name)

    def shards(self, examples: int) -> list[SplitShard]:
        return shards_of_splits(self, examples)


class ScenesSplit:
    def __init__(self, builder: tfds.core.DatasetBuilder, name: str):
        # Images are decoded here, and the maps not at all: half of the time.
        undecoded = dict.fromkeys(("image", "segmentation", "edges"), tfds.decode.SkipDecoding())
        self._records = builder.as_data_source(name, decoders=undecoded)
        self._where = str(builder.data_dir)
        info = builder.info.splits[name]
        self.fingerprint = fingerprint(builder.info.full_name, name, info.shard_lengths, info.num_bytes)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> SourceExample:
        record = self._record(index)
        id = record["id"].decode()
        try:
            image = decode_image(record["image"])
        except UnreadableImage as error:
            raise BadExample(id, str(error)) from None
        metadata = {name: json.loads(record[name]) for name in ("scene", "facts")}
        return SourceExample(id, image, record["caption"].decode(), metadata)

    def captions(self) -> Iterator[str]:
        return (self._record(index)["caption"].decode() for index in range(len(self)))

    def _record(self, index: int) -> dict[str, Any]:
        try:
            return self._records[index]
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"the scenes at {self._where} are damaged ({reason}): `{MAKE_WITH}` again") from None
