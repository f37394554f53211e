"""Sources: where images and captions come from, with random access. Everything later reads them through this folder."""

from __future__ import annotations

from cm3leon_jax.data.sources.batches import ImageBatches
from cm3leon_jax.data.sources.entries import HeldOut
from cm3leon_jax.data.sources.example import BadExample, Source, SourceExample, SourceShard, SourceSplit
from cm3leon_jax.data.sources.images import fit_image
from cm3leon_jax.data.sources.kinds import check_kind, open_kind
from cm3leon_jax.data.sources.several import SeveralSources, Weighted, documents_of, split_specs
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import is_remote

__all__ = [
    "BadExample",
    "ImageBatches",
    "Source",
    "SourceExample",
    "SourceShard",
    "SourceSplit",
    "check_spec",
    "documents_of",
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
    - "scenes:DATA_DIR?task=NAME": its instructions for a task of fine-tuning
    - "vqa2:FOLDER?split=val" and others: data sets for fine-tuning as they are published (`published.PUBLISHED`)
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
        check_kind(part.spec)
    return parts


def _opened(spec: str, held_out: HeldOut) -> Source:
    if not is_remote(spec):
        return open_kind(spec, held_out)
    try:
        return open_kind(spec, held_out)
    except UserError:
        raise
    except Exception as error:  # each object store has errors of its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{spec} cannot be read ({reason}); check its name, and whether you may read it") from error
