"""The pictures and texts that a report shows: PNG files in a folder, and `gallery.json` that says what they are.

    reconstructions  [{original, reconstruction}]
    prompts          [{caption, original, retrieved: [{image, caption}], images: {rule: {image, facts}}}]
    captions         [{image, caption, generated, facts}]
    infills          [{caption, hidden, filled, original}]

Pictures are file names relative to the folder; facts are [{text, kind, true}].
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from cm3leon_jax.runtime.files import Path, new_directory, write_json

GALLERY_FILE = "gallery.json"


def write_gallery(directory: Path, gallery: dict) -> None:
    """Writes `gallery` with every uint8 [H, W, 3] array in it saved as a PNG and replaced by its file name."""
    with new_directory(directory) as aside:
        write_json(aside / GALLERY_FILE, _saved(gallery, "", aside))


def read_gallery(directory: Path) -> dict:
    """The index of a gallery; {} where there is none."""
    path = pathlib.Path(directory) / GALLERY_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _saved(value: Any, name: str, directory: pathlib.Path) -> Any:
    if isinstance(value, np.ndarray):
        file = f"{name}.png"
        Image.fromarray(value).save(directory / file, optimize=True)
        return file
    if isinstance(value, dict):
        return {key: _saved(item, f"{name}_{key}" if name else key, directory) for key, item in value.items()}
    if isinstance(value, list):
        return [_saved(item, f"{name}_{index}", directory) for index, item in enumerate(value)]
    return value
