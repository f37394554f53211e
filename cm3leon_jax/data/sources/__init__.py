"""Sources: where images and captions come from, with random access. Everything later reads them through this folder."""

from __future__ import annotations

from cm3leon_jax.data.sources.batches import ImageBatches
from cm3leon_jax.data.sources.example import BadExample, Source, SourceExample, SourceSplit
from cm3leon_jax.data.sources.folder import FolderSource
from cm3leon_jax.data.sources.images import fit_image
from cm3leon_jax.runtime.errors import UserError

__all__ = ["BadExample", "ImageBatches", "Source", "SourceExample", "SourceSplit", "fit_image", "open_source"]


def open_source(spec: str, *, validation_share: float = 0.02, test_share: float = 0.02) -> Source:
    """Opens "folder:PATH" (images with captions) or "scenes:DATA_DIR" (the embedded data set, already rendered).

    The shares say how much of a folder is held out; scenes come with their own splits. Raises `UserError`.
    """
    kind, separator, path = spec.partition(":")
    if not separator or not path or kind not in ("folder", "scenes"):
        raise UserError(f"unknown source {spec!r}: name one as folder:PATH or scenes:DATA_DIR")
    if kind == "folder":
        return FolderSource(path, validation_share=validation_share, test_share=test_share)
    from cm3leon_jax.data.sources.scenes import ScenesSource  # TensorFlow Datasets is imported only where it is needed

    return ScenesSource(path)
