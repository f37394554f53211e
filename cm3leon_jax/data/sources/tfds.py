"""Any image data set of TensorFlow Datasets that was prepared with random access (`--file_format=array_record`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cm3leon_jax.data.array_records import ArrayRecords, Damaged
from cm3leon_jax.data.sources.columns import Columns, split_columns
from cm3leon_jax.data.sources.entries import Entry, EntrySource, HeldOut, by_captions, printable, require_good
from cm3leon_jax.data.sources.images import UnreadableImage
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import as_path, fingerprint
from cm3leon_jax.runtime.progress import progress

_SPLITS = {"val": "validation", "dev": "validation"}  # what others call them
_DAMAGED = (Damaged, RuntimeError)
_PREPARE = "prepare it with `tfds build {} --file_format=array_record`"


def tfds_source(spec: str, held_out: HeldOut) -> EntrySource:
    """`tfds:NAME?image=…&caption=…&id=…` or `tfds:FOLDER`: a prepared data set by name or by its folder.

    A feature inside another is written with a slash: `captions/text`, which COCO's need not name. Of a feature with
    several captions each is an example. A data set that has only "train" is split by a hash of the ids.
    """
    name, columns = split_columns(spec)
    builder = _opened(name)
    features = _flat(builder.info.features)
    columns = columns.found_in(features, f"the data set {name}")
    if not isinstance(features[columns.image], tfds.features.Image) or "/" in columns.image:
        raise UserError(f"feature {columns.image!r} of {name} is no image: name one with ?image=NAME")
    tables = _Records(builder, columns.image)
    plain = sorted(
        name for name, feature in builder.info.features.items() if _is_plain(feature) and name not in columns
    )
    splits = {_SPLITS.get(split, split): list(_entries(tables, split, columns, plain)) for split in tables.splits}
    require_good([entry for entries in splits.values() for entry in entries], name, "look at its features")
    if list(splits) == ["train"]:
        splits = held_out.split(splits["train"])
    return EntrySource(f"tfds:{spec}", splits, tables)


def _opened(name: str) -> tfds.core.DatasetBuilder:
    """A prepared data set by its folder, or by its name where TFDS keeps data sets."""
    if (as_path(name) / "dataset_info.json").exists():
        return tfds.builder_from_directory(name)
    try:
        builder = tfds.builder(name)
    except Exception as error:  # of many types, for names that are none and for builders that lack a package
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"no data set {name!r} ({reason}); give the name of one, or the folder of its version"
        ) from None
    if not builder.is_prepared():
        raise UserError(f"{name} is not prepared below {builder.data_dir}: {_PREPARE.format(name)}")
    return builder


class _Records:
    """The records of all splits; a place is (split, index)."""

    def __init__(self, builder: tfds.core.DatasetBuilder, image: str):
        self._image = image
        undecoded = {
            name: tfds.decode.SkipDecoding()
            for name, feature in builder.info.features.items()
            if isinstance(feature, tfds.features.Image)
        }
        try:
            self.splits = {split: builder.as_data_source(split, decoders=undecoded) for split in builder.info.splits}
        except NotImplementedError:
            kind = getattr(builder.info.file_format, "value", "files")
            raise UserError(
                f"{builder.info.full_name} is kept as {kind}, without random access: {_PREPARE.format(builder.name)}"
            ) from None
        for split, source in self.splits.items():
            if builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD:  # whose own keeps every file open
                parts = builder.info.splits[split].file_instructions
                source.data_source = ArrayRecords([(each.filename, each.skip, each.take) for each in parts])
        sizes = [(split, info.shard_lengths, info.num_bytes) for split, info in builder.info.splits.items()]
        self._state = fingerprint(builder.info.full_name, sizes)

    def read(self, place: tuple[str, int]) -> bytes:
        split, index = place
        try:
            return self.splits[split][index][self._image]
        except _DAMAGED as error:
            raise UnreadableImage(f"the record is damaged ({' '.join(str(error).split())})") from None

    def state(self, place: tuple[str, int]) -> tuple:
        return (self._state, *place)


def _entries(records: _Records, split: str, columns: Columns, plain: Sequence[str]) -> Iterator[Entry]:
    table = records.splits[split]
    bar = progress(range(len(table)), label=split, total=len(table), unit="records", delay=2.0)
    for index in bar:
        try:
            record = table[index]
        except _DAMAGED as error:
            yield Entry(f"{split}/{index}", reason=f"the record is damaged ({' '.join(str(error).split())})")
            continue
        id = printable(str(_value(record, columns.id))) if columns.id else f"{split}/{index}"
        metadata = {name: _value(record, name) for name in plain}
        captions = _value(record, columns.caption)
        yield from by_captions(id, captions, (split, index), metadata, where=f"feature {columns.caption}")


def _flat(features: Any, prefix: str = "") -> dict[str, Any]:
    """Features by name; one inside another as "outer/inner"."""
    found: dict[str, Any] = {}
    for name, feature in sorted(features.items()):
        inner = getattr(feature, "feature", feature)  # of a sequence
        found[prefix + name] = feature
        if isinstance(inner, tfds.features.FeaturesDict):
            found |= _flat(inner, f"{prefix}{name}/")
    return found


def _is_plain(feature: Any) -> bool:
    if isinstance(feature, tfds.features.Image):
        return False
    return isinstance(feature, tfds.features.Text) or (
        getattr(feature, "shape", None) == () and feature.dtype is not None
    )


def _value(record: dict, name: str) -> Any:
    """A feature of a record as Python has it: bytes are text, arrays are lists."""
    value: Any = record
    rest = name
    while rest:
        if isinstance(value, dict) and rest in value:  # COCO has "image/id" as one name
            value, rest = value[rest], ""
        else:
            first, _, rest = rest.partition("/")
            value = value[first]
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return _text(value)


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [_text(each) for each in value] if isinstance(value, list) else value
