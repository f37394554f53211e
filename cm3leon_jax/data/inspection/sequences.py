"""Training sequences: as readable text, and with their images decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.data.inspection.images import ImageDecoder
from cm3leon_jax.data.inspection.rendering import TextDecoder, render
from cm3leon_jax.documents import SequenceError, Span, parse, segment_spans, unmask
from cm3leon_jax.pages.pieces import cards, picture, section, text
from cm3leon_jax.vocabulary import Vocabulary

_LEAD = (
    "One training sequence each, as the model reads it, <eos> to <eos>, with its images above. Darkened parts of an "
    "image are hidden behind a sentinel and come at the end."
)


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Sequences made readable."""

    text: str  # one block of lines for each sequence
    images: list[np.ndarray]  # uint8 [H, W, 3], in the order of the sequences and of the documents within
    html: str  # one section of a page


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
    blocks, pictures, articles = [], [], []
    for number, (label, ids) in enumerate(sequences, start=1):
        title = f"{number}. {label}, {len(ids)} ids"
        line = render(ids, vocabulary, text_tokenizer)
        drawn = _images_of(ids, vocabulary, image_tokenizer)
        blocks.append(f"{title}\n  {line}\n")
        pictures += drawn
        images = "".join(f"<li>{picture(image, f'image {place}')}</li>" for place, image in enumerate(drawn, start=1))
        articles.append(
            f'<article class="card"><h3>{text(title)}</h3><ul class="shots">{images}</ul>'
            f'<p class="tokens">{text(line)}</p></article>'
        )
    return Inspection("\n".join(blocks), pictures, section("sequences", "Sequences", _LEAD, cards(articles)))


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
