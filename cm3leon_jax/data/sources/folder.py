"""A folder of images with captions. Held-out splits are drawn by a hash of the id, so that added data moves nothing."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator

from cm3leon_jax.data.sources.captions import HOW_TO_CAPTION, Entry, printable, read_entries
from cm3leon_jax.data.sources.example import BadExample, SourceExample, require_split
from cm3leon_jax.data.sources.images import UnreadableImage, decode_image
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


class FolderSource:
    """`folder:PATH`: images in PATH and its sub-folders (not hidden ones), captions in one of three forms.

    An id is the image's path below the folder. Of the ids, about `test_share` are the split "test" and
    `validation_share` the split "validation", whatever else lies in the folder.
    """

    splits = ("train", "validation", "test")

    def __init__(self, path: str, *, validation_share: float = 0.02, test_share: float = 0.02):
        if min(validation_share, test_share) < 0 or validation_share + test_share >= 1:
            raise UserError(f"held-out shares {validation_share} and {test_share}: both are ≥ 0 and their sum is < 1")
        self.name = f"folder:{path}"
        folder = pathlib.Path(path)
        images = _find_images(folder)
        if not images:
            raise UserError(f"no images in {folder}: put {', '.join(IMAGE_SUFFIXES)} files with captions there")
        self._splits: dict[str, list[Entry]] = {name: [] for name in self.splits}
        for entry in read_entries(folder, images):
            self._splits[_split_of(entry, validation_share, test_share)].append(entry)
        self._folder = folder

    def split(self, name: str) -> FolderSplit:
        require_split(self, name)
        return FolderSplit(self._folder, self._splits[name])


class FolderSplit:
    def __init__(self, folder: pathlib.Path, entries: list[Entry]):
        self._folder = folder
        self._entries = entries

    @functools.cached_property
    def fingerprint(self) -> str:
        """Over ids, captions, and the images' sizes and times of change: contents are not read."""
        return fingerprint([(entry.id, entry.caption, entry.reason, self._state(entry)) for entry in self._entries])

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> SourceExample:
        entry = self._entries[index]
        if entry.reason:
            raise BadExample(entry.id, entry.reason)
        path = self._folder / entry.path
        try:
            if not path.is_file():  # nor a pipe, which would be read for ever
                raise BadExample(entry.id, "the image is not a file any more")
            image = decode_image(path.read_bytes())
        except OSError as error:
            raise BadExample(entry.id, f"the image cannot be read ({error.strerror})") from None
        except UnreadableImage as error:
            raise BadExample(entry.id, str(error)) from None
        return SourceExample(entry.id, image, entry.caption, entry.metadata)

    def captions(self) -> Iterator[str]:
        return (entry.caption for entry in self._entries if not entry.reason)

    def _state(self, entry: Entry) -> tuple[int, int]:
        try:
            state = (self._folder / entry.path).stat()
        except (OSError, ValueError):
            return (0, 0)
        return (state.st_size, state.st_mtime_ns)


def _find_images(folder: pathlib.Path) -> list[str]:
    """Paths of all images below `folder`, relative to it, sorted."""
    if not folder.exists():
        raise UserError(f"no folder {folder}: name a folder of images with captions ({HOW_TO_CAPTION})")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name a folder of images with captions")

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): check its permissions")

    found = []
    for directory, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(directory, folder)
        for name in files:
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                found.append(name if below == "." else os.path.join(below, name))
    return sorted(found)


def _split_of(entry: Entry, validation_share: float, test_share: float) -> str:
    """By the image's path, so that all captions of an image stay on one side."""
    digest = hashlib.blake2b((printable(entry.path) or entry.id).encode(), digest_size=8).digest()
    draw = int.from_bytes(digest, "little") / 2**64
    if draw < test_share:
        return "test"
    return "validation" if draw < test_share + validation_share else "train"
