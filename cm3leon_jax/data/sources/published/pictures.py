"""The pictures of a published data set, found by what its files call them, wherever they lie below a folder."""

from __future__ import annotations

import functools
import os
import posixpath
from collections.abc import Iterable

import PIL.Image

from cm3leon_jax.data.sources.entries import leaves_folder, printable
from cm3leon_jax.data.sources.folder import IMAGE_SUFFIXES
from cm3leon_jax.data.sources.images import UnreadableImage
from cm3leon_jax.runtime.files import as_path, file_state, open_to_read

_ORIENTATION = 0x0112  # the EXIF tag; from 5 on, width and height are exchanged


class Pictures:
    """Those among the paths `below` a folder, which is not looked at again. A place is a path below the folder."""

    def __init__(self, folder: str, below: Iterable[str]):
        self.folder = folder
        self._paths = {path for path in below if path.lower().endswith(IMAGE_SUFFIXES)}
        self._state = functools.lru_cache(maxsize=2**16)(file_state)

    @functools.cached_property
    def _by_name(self) -> dict[str, str]:
        """Paths by their last part; "" for one that several have."""
        found: dict[str, str] = {}
        for path in self._paths:
            name = os.path.basename(path)
            found[name] = "" if name in found else path
        return found

    def find(self, *names: str) -> str:
        """The place of the picture that has the first of these names that there is: a path below the folder, or its
        last part, as data sets are unpacked into folders of other names. `ValueError`: none, or several."""
        return self._found(
            names, {name: self._by_name[base] for name in names if (base := _base(name)) in self._by_name}
        )

    def at(self, *paths: str) -> str:
        """The place of the first of these paths that there is, from the folder on. `ValueError`: there is none."""
        return self._found(paths, {})

    def _found(self, names: tuple[str, ...], elsewhere: dict[str, str]) -> str:
        for name in names:
            check_inside(name)
            if (path := posixpath.normpath(name)) in self._paths:
                return path
        for name, path in elsewhere.items():
            if not path:
                raise ValueError(
                    f"several pictures are called {printable(_base(name))}: give their folder with images="
                )
            return path
        raise ValueError(f"no picture {printable(names[0])}")

    def size(self, place: str) -> tuple[int, int]:
        """(width, height) as `decode_image` gives it; only the file's head is read. `ValueError`: it is no picture."""
        try:
            with open_to_read(self._full(place)) as file, PIL.Image.open(file) as image:
                turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
                return image.size[::-1] if turned else image.size
        except Exception as error:  # decoders meet broken bytes with errors of every type
            raise ValueError(f"the image cannot be decoded ({type(error).__name__})") from None

    def read(self, place: str) -> bytes:
        path = as_path(self._full(place))
        if not path.is_file():
            raise UnreadableImage("the image is not a file any more")
        return path.read_bytes()

    def state(self, place: str) -> tuple[int, float]:
        return self._state(self._full(place))

    def _full(self, place: str) -> str:
        return posixpath.join(self.folder, place)


def check_inside(path: str) -> None:
    """`ValueError` where a path that others have written leaves the folder."""
    if leaves_folder(path):
        raise ValueError(f"{printable(path)!r} leaves the folder: absolute paths and `..` are refused")


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def names_of_id(image_id: str) -> tuple[str, ...]:
    """What a picture with this id is called."""
    return tuple(image_id + suffix for suffix in (".jpg", ".jpeg", ".png"))


def coco_names(image_id: int, given: str = "") -> tuple[str, ...]:
    """What COCO calls a picture: as it is given, with its number alone (2017), or with its split before it (2014)."""
    number = f"{image_id:012d}.jpg"
    names = number, f"COCO_train2014_{number}", f"COCO_val2014_{number}", f"COCO_test2015_{number}"
    return (given, *names) if given else names
