"""The table of all kinds of sources, and what opens one."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from cm3leon_jax.data.sources.entries import HeldOut
from cm3leon_jax.data.sources.example import Source
from cm3leon_jax.data.sources.published import CONDITIONS, PUBLISHED, check_published, open_published
from cm3leon_jax.runtime.errors import UserError


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
    "creatures": Kind("DATA_DIR", "creatures.creatures_source"),
    **{name: Kind(published.form, "") for name, published in PUBLISHED.items()},
}


def check_kind(spec: str) -> None:
    """`UserError` where KIND:WHERE is of no known kind, or has an option that its kind has not; nothing is opened."""
    kind, _, where = spec.partition(":")
    if kind not in KINDS or not where:
        known = ", ".join(f"{name}:{each.form}" for name, each in KINDS.items())
        raise UserError(f"unknown source {spec!r}: name one as {known}")
    if _is_nested(kind, where):
        from cm3leon_jax.data.sources.published.computed import check_computed

        check_computed(kind)
        check_kind(where)
    elif kind in PUBLISHED:
        check_published(kind, where)


def open_kind(spec: str, held_out: HeldOut) -> Source:
    """Opens one source, KIND:WHERE, of a kind that is known. Raises `UserError`."""
    kind, _, where = spec.partition(":")
    if _is_nested(kind, where):
        from cm3leon_jax.data.sources.published.computed import computed_source

        return computed_source(kind, open_kind(where, held_out))
    if kind in PUBLISHED:
        return open_published(kind, where, held_out)
    module, _, function = KINDS[kind].opener.partition(".")
    return getattr(importlib.import_module(f"cm3leon_jax.data.sources.{module}"), function)(where, held_out)


def _is_nested(kind: str, where: str) -> bool:
    """Whether conditions are to be found in the pictures of another source: `canny:folder:PICTURES`."""
    return kind in CONDITIONS and where.partition(":")[0] in KINDS
