"""A folder of images with captions."""

from __future__ import annotations

import pathlib

from cm3leon_jax.data.sources.captions import HOW_TO_CAPTION, read_entries
from cm3leon_jax.data.sources.entries import EntrySource, HeldOut
from cm3leon_jax.data.sources.images import UnreadableImage
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import as_path, file_state, files_below

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


def folder_source(path: str, held_out: HeldOut) -> EntrySource:
    """`folder:PATH`: images in PATH and its sub-folders (not hidden ones), captions in one of three forms.

    An id is the image's path below the folder; all captions of an image stay in one split.
    """
    folder = as_path(path)
    if not folder.exists():
        raise UserError(f"no folder {folder}: name a folder of images with captions ({HOW_TO_CAPTION})")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name a folder of images with captions")
    found = files_below(folder)
    images = [name for name in found if name.lower().endswith(IMAGE_SUFFIXES)]
    if not images:
        raise UserError(f"no images in {folder}: put {', '.join(IMAGE_SUFFIXES)} files with captions there")
    entries = read_entries(folder, images, set(found))
    return EntrySource(f"folder:{path}", held_out.split(entries), _Files(folder))


class _Files:
    """Images as files of a folder; a place is a path below it."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder

    def read(self, place: str) -> bytes:
        path = self._folder / place
        if not path.is_file():  # nor a pipe, which would be read for ever
            raise UnreadableImage("the image is not a file any more")
        return path.read_bytes()

    def state(self, place: str) -> tuple[int, float]:
        return file_state(self._folder / place)
