"""Named boxes around the objects of a picture, as the text of a spatially grounded example says them.

    dog at (12, 40) -> (118, 230), chair at (150, 90) -> (256, 256)

Corners are in pixels of the square that the model sees, so boxes go the way of their picture through `fit_image`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cm3leon_jax.data.sources.entries import Entry
from cm3leon_jax.data.sources.images import FITS
from cm3leon_jax.data.sources.instructions import instruction, instruction_entry
from cm3leon_jax.data.sources.published.request import Request
from cm3leon_jax.runtime.errors import UserError


class Box(NamedTuple):
    """Left, top, right and bottom edge."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclasses.dataclass(frozen=True)
class Grounding:
    """The square that the model sees, and how many objects are named at most, the largest first."""

    resolution: int = 256
    fit: str = "crop"
    most: int = 10

    def fitted(self, box: Box, width: int, height: int) -> Box:
        """A box in pixels of a picture of this size -> in pixels of the square, cut at its edges; of what lies outside
        nothing is left: x0 = x1 or y0 = y1."""
        (left, scale_x), (top, scale_y) = self._axes(width, height)
        x0, x1 = (min(max(left + scale_x * x, 0.0), self.resolution) for x in (box.x0, box.x1))
        y0, y1 = (min(max(top + scale_y * y, 0.0), self.resolution) for y in (box.y0, box.y1))
        return Box(x0, y0, x1, y1)

    def _axes(self, width: int, height: int) -> list[tuple[float, float]]:
        """(offset, scale) of x and of y, as `fit_image` has them: padding is of whole pixels."""
        side = self.resolution
        if self.fit == "stretch":
            return [(0.0, side / width), (0.0, side / height)]
        if self.fit == "crop":
            scale = side / min(width, height)
            return [((side - scale * length) / 2, scale) for length in (width, height)]
        scaled = [side if length == max(width, height) else round(side * length / max(width, height))
                  for length in (width, height)]  # fmt: skip
        return [(round((side - new) / 2), new / old) for new, old in zip(scaled, (width, height), strict=True)]


def grounding_of(request: Request) -> Grounding:
    """From the options. `UserError` where one is not what it can be."""
    fit = request.options.get("fit", "crop")
    if fit not in FITS:
        raise UserError(f"{request.spec} has fit={fit}: use one of {', '.join(FITS)}")
    return Grounding(request.number("resolution", 256, 8), fit, request.number("boxes", 10))


def ground_entry(
    id: str,
    place: Any,
    size: tuple[int, int],
    boxes: Iterable[tuple[str, Box]],
    captions: Sequence[str],
    grounding: Grounding,
    metadata: dict[str, Any],
) -> Entry:
    """`size`: (width, height) of the picture, and `boxes` with their names in its pixels. Without captions the names
    are one. `ValueError` where no box is left."""
    fitted = [(name, grounding.fitted(box, *size)) for name, box in boxes]
    seen = [(name, Box(*map(round, box))) for name, box in sorted(fitted, key=lambda each: -_area(each[1]))]
    objects = [(name, box) for name, box in seen if _area(box) > 0][: grounding.most]
    if not objects:
        raise ValueError("no box lies in what the model sees of the picture")
    said = ", ".join(f"{name} at ({box.x0}, {box.y0}) -> ({box.x1}, {box.y1})" for name, box in objects)
    caption = list(captions) or _listed(list(dict.fromkeys(name for name, _ in objects)))
    metadata = {
        **metadata,
        "objects": [{"name": name, "box": list(box)} for name, box in objects],
        "resolution": grounding.resolution,
        "fit": grounding.fit,
    }
    return instruction_entry(id, instruction("ground", caption=caption, objects=said), [place], metadata, group=id)


def _area(box: Box) -> float:
    return max(box.x1 - box.x0, 0) * max(box.y1 - box.y0, 0)


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
