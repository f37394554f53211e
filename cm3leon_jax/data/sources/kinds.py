"""The table of all kinds of sources, and what opens one."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from cm3leon_jax.data.sources.entries import HeldOut
from cm3leon_jax.data.sources.example import Source
from cm3leon_jax.data.sources.published import PUBLISHED, open_published


class Kind(NamedTuple):
    """How a source is named, KIND:FORM, and by what it is opened: "module.function" of this folder.

    What reads a kind is imported only where it is needed: TensorFlow Datasets and PyArrow take seconds.
    """

    form: str
    opener: str


KINDS: dict[str, Kind] = {
    "folder": Kind("PATH", "folder.folder_source"),
    "webdataset": Kind("PATTERN", "webdataset.webdataset_source"),
    "parquet": Kind("PATTERN", "parquet.parquet_source"),
    "documents": Kind("PATTERN", "documents.documents_source"),
    "tfds": Kind("NAME", "tfds.tfds_source"),
    "scenes": Kind("DATA_DIR", "scenes_tasks.scenes_source"),
    **{name: Kind(published.form, "") for name, published in PUBLISHED.items()},
}


def open_kind(spec: str, held_out: HeldOut) -> Source:
    """Opens one source, KIND:WHERE, of a kind that is known. Raises `UserError`."""
    kind, _, where = spec.partition(":")
    if kind in PUBLISHED:
        return open_published(kind, where, held_out)
    module, _, function = KINDS[kind].opener.partition(".")
    return getattr(importlib.import_module(f"cm3leon_jax.data.sources.{module}"), function)(where, held_out)
