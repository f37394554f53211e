"""Texts, pictures, documents and holes, in the order in which they are read -> prompts of the engine.

A text, or a hole in one, behind a picture begins the next document; whole documents stand before all else:

    ["a red circle", ImageHole()]                       a picture of a text
    [document, document, "a red circle", ImageHole()]   the same behind two retrieved documents
    [TextHole(), picture]                               a text for a picture
    ["a ", TextHole(8), " circle", picture]             the missing words of one
    ["a red circle", HiddenCells(picture, cells)]       the missing part of a picture; text may have holes as well
    ["a red circle", ImageHole(), TextHole(), ImageHole()]   a picture, then another text and its picture
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.library import RetrievedDocument
from cm3leon_jax.sampling.prompts import HIDDEN, Draft, Prompt, TextHole, compose
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
from cm3leon_jax.tokenizers.text import TextTokenizer
from cm3leon_jax.vocabulary import Vocabulary

_GREY = 208  # of cells that are missing


@dataclasses.dataclass(frozen=True)
class ImageHole:
    """A whole picture that is to be drawn."""


@dataclasses.dataclass(frozen=True, eq=False)
class HiddenCells:
    """A picture, uint8 [R, R, 3] or its codes int32 [N], of which the `hidden` cells of the token grid, bool [rows,
    columns], are drawn anew."""

    image: np.ndarray
    hidden: np.ndarray


_BEFORE = ("a", "e", "0", ".", ")", "я")  # one of these is no piece together with what follows it


@dataclasses.dataclass(frozen=True)
class Continuation:
    """A text that goes on without a space behind a text or a hole, such as the full stop of an answer."""

    text: str


Part = str | Continuation | np.ndarray | HiddenCells | ImageHole | TextHole | RetrievedDocument


def prompt_of(
    parts: Sequence[Part],
    text_tokenizer: TextTokenizer,
    image_tokenizer: ImageTokenizer,
    vocabulary: Vocabulary,
    less: Sequence[Collection[int]] | None = None,
) -> Prompt:
    """The prompt that asks for what is missing among `parts`; pictures are uint8 [R, R, 3], or codes int32 [N].
    `less` is that of `prompts.compose`.

    Raises `UserError` where nothing is, or a document does not stand at the beginning.
    """
    context, drafts = [], [Draft()]
    for part in parts:
        if isinstance(part, RetrievedDocument):
            if len(drafts) > 1 or len(drafts[0].text) or len(drafts[0].image):
                raise UserError("a retrieved document stands behind a text or a picture; put it at the beginning")
            context.append(part.document)
        elif isinstance(part, str | Continuation | TextHole):
            if len(drafts[-1].image):
                drafts.append(Draft())
            text = _text_of(part, text_tokenizer)
            drafts[-1] = dataclasses.replace(drafts[-1], text=(*drafts[-1].text, text))
        else:
            if len(drafts[-1].image):
                drafts.append(Draft())
            drafts[-1] = dataclasses.replace(drafts[-1], image=_codes_with_holes(part, image_tokenizer))
    return compose(drafts, context, vocabulary=vocabulary, less=less)


def _text_of(part: str | Continuation | TextHole, text_tokenizer: TextTokenizer) -> np.ndarray | TextHole:
    if isinstance(part, TextHole):
        return part
    if isinstance(part, Continuation):
        return _continued(part.text, text_tokenizer)
    return text_tokenizer.encode(part)


def _continued(text: str, text_tokenizer: TextTokenizer) -> np.ndarray:
    """The ids of a text that goes on from another: from a character that is no part of its first piece."""
    for before in _BEFORE:
        own, ids = text_tokenizer.encode_parts([before, text])
        if own.tolist() == text_tokenizer.encode(before).tolist():
            return ids
    return text_tokenizer.encode(text)


def codes_of(image: np.ndarray, image_tokenizer: ImageTokenizer) -> np.ndarray:
    """Of a picture, uint8 [R, R, 3], or of its codes: int32 [N]."""
    return image if image.ndim == 1 else image_tokenizer.encode(image[None])[0]


def decode_with_holes(image_tokenizer: ImageTokenizer, codes: Sequence[np.ndarray]) -> np.ndarray:
    """Codes of pictures, `HIDDEN` where one is missing -> uint8 [N, R, R, 3], light grey there."""
    codes_NxT = np.array(codes, np.int32).reshape(-1, image_tokenizer.tokens_per_image)
    missing = codes_NxT == HIDDEN
    pictures = image_tokenizer.decode(np.where(missing, 0, codes_NxT))
    if missing.any():
        cells = missing.reshape(-1, *image_tokenizer.grid)
        for axis, cells_along in enumerate(image_tokenizer.grid, start=1):
            cells = cells.repeat(image_tokenizer.resolution // cells_along, axis=axis)
        pictures = np.where(cells[..., None], np.uint8(_GREY), pictures)
    return pictures


def _codes_with_holes(part: np.ndarray | HiddenCells | ImageHole, image_tokenizer: ImageTokenizer) -> np.ndarray:
    if isinstance(part, ImageHole):
        return np.full(image_tokenizer.tokens_per_image, HIDDEN, np.int32)
    if not isinstance(part, HiddenCells):
        return codes_of(part, image_tokenizer)
    hidden = np.asarray(part.hidden, bool)
    if hidden.shape != tuple(image_tokenizer.grid):
        raise UserError(f"the mask is {hidden.shape}; it must be {tuple(image_tokenizer.grid)}, the token grid")
    return np.where(hidden.reshape(-1), HIDDEN, codes_of(part.image, image_tokenizer))
