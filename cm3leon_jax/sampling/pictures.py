"""Pictures of pictures: a grid of images with words beside and above them, as a PNG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cm3leon_jax.runtime.files import Path, written_aside

_GAP = 6  # pixels between cells
_FONT_SIZE = 12
_LINE = 15  # pixels from line to line
_CHARACTER = 6.5  # pixels, on average


def write_picture_grid(
    path: Path,
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    captions: Sequence[str] | None = None,
    headings: Sequence[str] | None = None,
    cell: int = 128,
) -> None:
    """Writes a PNG of images, uint8 [H, W, 3], scaled to `cell` pixels; None leaves a place empty.

    `captions`: a text for each row, at its left; `headings`: one for each column, above it.
    """
    with written_aside(path) as aside:
        picture_grid(rows, captions=captions, headings=headings, cell=cell).save(aside, "PNG")


def picture_grid(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    captions: Sequence[str] | None = None,
    headings: Sequence[str] | None = None,
    cell: int = 128,
) -> Image.Image:
    """The picture that `write_picture_grid` writes."""
    left = _GAP + (2 * cell + _GAP if captions else 0)
    top = _GAP + (_LINE + _GAP if headings else 0)
    columns = max((len(row) for row in rows), default=0)
    step = cell + _GAP
    canvas = Image.new("RGB", (left + columns * step, top + len(rows) * step), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_FONT_SIZE)
    for column, heading in enumerate(headings or ()):
        pen.text((left + column * step, _GAP), heading, "black", font)
    for index, row in enumerate(rows):
        y = top + index * step
        if captions:
            lines = textwrap.wrap(captions[index], int(2 * cell / _CHARACTER))[: cell // _LINE]
            for number, line in enumerate(lines):
                pen.text((_GAP, y + number * _LINE), line, "black", font)
        for column, image in enumerate(row):
            if image is not None:
                # Small images are enlarged in blocks, so that one sees what is there.
                smaller = image.shape[0] > cell
                method = Image.Resampling.LANCZOS if smaller else Image.Resampling.NEAREST
                canvas.paste(Image.fromarray(image).resize((cell, cell), method), (left + column * step, y))
    return canvas
