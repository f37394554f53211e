"""Sources: where images and captions come from, with random access. Everything later reads them through this folder."""

from __future__ import annotations

from cm3leon_jax.data.sources.batches import ImageBatches
from cm3leon_jax.data.sources.entries import HeldOut
from cm3leon_jax.data.sources.example import BadExample, Source, SourceExample, SourceShard, SourceSplit
from cm3leon_jax.data.sources.folder import folder_source
from cm3leon_jax.data.sources.images import fit_image
from cm3leon_jax.data.sources.several import SeveralSources, Weighted, split_specs
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import is_remote

FORMS = {
    "folder": "PATH",
    "webdataset": "PATTERN",
    "parquet": "PATTERN",
    "documents": "PATTERN",
    "tfds": "NAME",
    "scenes": "DATA_DIR",
    "creatures": "DATA_DIR",
}

__all__ = [
    "BadExample",
    "ImageBatches",
    "Source",
    "SourceExample",
    "SourceShard",
    "SourceSplit",
    "check_spec",
    "fit_image",
    "open_source",
]


def open_source(spec: str, *, validation_share: float = 0.02, test_share: float = 0.02) -> Source:
    """Opens a source by its name, KIND:WHERE:

    - "folder:PATH": images with captions
    - "webdataset:PATTERN": tar files as img2dataset writes them
    - "parquet:PATTERN?image=NAME&caption=NAME": tables with images in a column
    - "documents:PATTERN": lines of JSON, each a document of texts and images
    - "tfds:NAME" or "tfds:FOLDER": a data set of TensorFlow Datasets that is prepared
    - "scenes:DATA_DIR": the embedded data set, already rendered
    - "creatures:DATA_DIR": pictures of named creatures, by the folder that `cm3leon creatures` wrote

    Several are joined by " + ", all or none with weights: "0.7*folder:A + 0.3*parquet:B". The shares say how much is
    held out; scenes and creatures come with their own splits. Raises `UserError`.
    """
    held_out = HeldOut(validation_share, test_share)
    parts = check_spec(spec)
    sources = [_opened(part.spec, held_out) for part in parts]
    if len(parts) == 1:
        return sources[0]
    return SeveralSources(spec, sources, [part.weight for part in parts])


def check_spec(spec: str) -> list[Weighted]:
    """The sources that are named, with their weights. `UserError` where one is of no known kind; nothing is opened."""
    parts = split_specs(spec)
    for part in parts:
        kind, _, where = part.spec.partition(":")
        if kind not in FORMS or not where:
            known = ", ".join(f"{kind}:{form}" for kind, form in FORMS.items())
            raise UserError(f"unknown source {part.spec!r}: name one as {known}")
    return parts


def _opened(spec: str, held_out: HeldOut) -> Source:
    if not is_remote(spec):
        return _open_one(spec, held_out)
    try:
        return _open_one(spec, held_out)
    except UserError:
        raise
    except Exception as error:  # each object store has errors of its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{spec} cannot be read ({reason}); check its name, and whether you may read it") from error


def _open_one(spec: str, held_out: HeldOut) -> Source:
    # What reads a kind is imported only where it is needed: TensorFlow Datasets and PyArrow take seconds.
    kind, _, where = spec.partition(":")
    if kind == "webdataset":
        from cm3leon_jax.data.sources.webdataset import webdataset_source

        return webdataset_source(where, held_out)
    if kind == "parquet":
        from cm3leon_jax.data.sources.parquet import parquet_source

        return parquet_source(where, held_out)
    if kind == "documents":
        from cm3leon_jax.data.sources.documents import documents_source

        return documents_source(where, held_out)
    if kind == "tfds":
        from cm3leon_jax.data.sources.tfds import tfds_source

        return tfds_source(where, held_out)
    if kind == "scenes":
        from cm3leon_jax.data.sources.scenes import ScenesSource

        return ScenesSource(where)
    if kind == "creatures":
        from cm3leon_jax.data.sources.creatures import CreaturesSource

        return CreaturesSource(where)
    return folder_source(where, held_out)
