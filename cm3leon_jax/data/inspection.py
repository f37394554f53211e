"""Sequences for people to look at: as readable text, and as a page with their images decoded."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from cm3leon_jax.documents import SequenceError, Span, parse, segment_spans, unmask
from cm3leon_jax.vocabulary import EOS_ID, PAD_ID, UNK_ID, Vocabulary


class TextDecoder(Protocol):
    """What of a text tokenizer is needed here."""

    def encode(self, text: str, /) -> np.ndarray: ...

    def decode(self, ids: Any, /) -> str: ...


class ImageDecoder(Protocol):
    """What of an image tokenizer is needed here."""

    @property
    def grid(self) -> tuple[int, int]: ...

    def decode(self, codes: np.ndarray, /) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Sequences made readable."""

    text: str  # one block of lines for each sequence
    images: list[np.ndarray]  # uint8 [H, W, 3], in the order of the sequences and of the documents within
    html: str  # one page that needs no other file


def render(ids: np.ndarray, vocabulary: Vocabulary, text_tokenizer: TextDecoder | None = None) -> str:
    """Any ids -> one line: names of control ids and sentinels, text as text, images as `[image 64 codes]`.

    Never fails: what is no proper sequence is shown as it is. Without a text tokenizer, texts are `[text 9 ids]`.
    """
    parts: list[str] = []
    for name, run in itertools.groupby(np.asarray(ids).tolist(), lambda value: _name(value, vocabulary)):
        values = list(run)
        if name == "image":
            parts.append(f"[image {len(values)} codes]")
        elif name == "<pad>":
            parts.append(f"[padding {len(values)}]")
        elif name != "text":
            parts += [name] * len(values)
        elif text_tokenizer is None:
            parts.append(f"[text {len(values)} ids]")
        else:
            parts.append(text_tokenizer.decode(np.array(values, np.int32)))
    return " ".join(parts)


def _name(value: int, vocabulary: Vocabulary) -> str:
    if UNK_ID <= value < vocabulary.text_size:
        return "text"
    if vocabulary.image_offset <= value < vocabulary.break_id:
        return "image"
    if vocabulary.sentinel_offset <= value < vocabulary.used:
        return f"<sentinel:{value - vocabulary.sentinel_offset}>"
    names = {PAD_ID: "<pad>", EOS_ID: "<eos>", vocabulary.break_id: "<break>", vocabulary.eoss_id: "<eoss>"}
    return names.get(value, f"<unused:{value}>")


def hidden_spans(ids: np.ndarray, vocabulary: Vocabulary) -> list[Span]:
    """Where the hidden spans of a masked sequence stand in `unmask(ids)`: what `documents.mask` was given."""
    sentinels = np.flatnonzero(vocabulary.is_sentinel(ids))
    places, starts = np.split(sentinels, 2)
    lengths = np.diff([*starts, len(ids) - 1]) - 2  # without the sentinel and <eoss>
    begins = places + np.cumsum([0, *lengths[:-1]])[: len(places)] - np.arange(len(places))
    return [Span(int(begin), int(begin + length)) for begin, length in zip(begins, lengths, strict=True)]


def inspect_sequences(
    sequences: Sequence[tuple[str, np.ndarray]],
    vocabulary: Vocabulary,
    text_tokenizer: TextDecoder,
    image_tokenizer: ImageDecoder,
) -> Inspection:
    """(label, ids) of each sequence -> readable text, its images, and a page. In the images, what is hidden from the
    model behind a sentinel is darkened. Images that are cut off or of another size are left out."""
    blocks, pictures, sections = [], [], []
    for number, (label, ids) in enumerate(sequences, start=1):
        title = f"{number}. {label}, {len(ids)} ids"
        line = render(ids, vocabulary, text_tokenizer)
        drawn = _images_of(ids, vocabulary, image_tokenizer)
        blocks.append(f"{title}\n  {line}\n")
        pictures += drawn
        figures = "".join(f'<img src="{_data_uri(image)}" alt="">' for image in drawn)
        sections.append(f"<section><h2>{html.escape(title)}</h2><p>{html.escape(line)}</p>{figures}</section>")
    return Inspection("\n".join(blocks), pictures, _PAGE.format(sections="\n".join(sections)))


def _images_of(ids: np.ndarray, vocabulary: Vocabulary, image_tokenizer: ImageDecoder) -> list[np.ndarray]:
    try:
        documents = parse(ids, vocabulary)
    except SequenceError:
        return []
    hidden = np.zeros(len(unmask(ids, vocabulary)), bool)
    for span in hidden_spans(ids, vocabulary):
        hidden[span.start : span.stop] = True
    rows, columns = image_tokenizer.grid
    segments = segment_spans(unmask(ids, vocabulary), vocabulary)[1::2]
    whole = [
        (document.image, hidden[segment.start : segment.stop])
        for document, segment in zip(documents, segments, strict=True)
        if len(document.image) == rows * columns
    ]
    if not whole:
        return []
    images = image_tokenizer.decode(np.stack([codes for codes, _ in whole]))
    return [_darkened(image, cells.reshape(rows, columns)) for image, (_, cells) in zip(images, whole, strict=True)]


def _darkened(image: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """[H, W, 3] with the cells of the token grid that are True at a third of their brightness."""
    scale = np.where(cells, 1 / 3, 1.0)
    scale = scale.repeat(image.shape[0] // cells.shape[0], 0).repeat(image.shape[1] // cells.shape[1], 1)
    return (image * scale[..., None]).astype(np.uint8)


def _data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sequences</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
h2 {{ font-size: 1rem; margin: 1.5rem 0 0; }} p {{ margin: .25rem 0 .5rem; overflow-wrap: anywhere; }}
img {{ width: 128px; image-rendering: pixelated; margin-right: .5rem; border: 1px solid #ccc; }}
</style></head><body>
<h1>Sequences</h1>
<p>One training sequence a section, as the model reads it. Darkened parts of an image are hidden behind a sentinel and
come at the end.</p>
{sections}
</body></html>
"""
