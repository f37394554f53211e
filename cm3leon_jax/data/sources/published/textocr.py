"""TextOCR and COCO-Text: where words stand in pictures, and what they say.

{"imgs": {id: {"file_name", "set", "width", "height"}}, "anns": {id: {"image_id", "bbox": [left, top, width, height],
    "utf8_string", "legibility"}}, "imgToAnns": {image id: [annotation ids]}}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cm3leon_jax.data.sources.entries import Entry, EntrySource
from cm3leon_jax.data.sources.instructions import instruction, instruction_entry
from cm3leon_jax.data.sources.published.fields import each_row, numbers, read_object, text
from cm3leon_jax.data.sources.published.request import Request, split_of

_ILLEGIBLE = "."  # how TextOCR marks it; COCO-Text has a field for it


class Word(NamedTuple):
    """What it says, and its box in pixels."""

    text: str
    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


def textocr_source(request: Request) -> EntrySource:
    """`textocr:FOLDER?words=50`: each picture with legible words, at most so many, is to be drawn from their text;
    others (half of COCO-Text) are passed over. An id is that of the picture."""
    most = request.number("words", 50)
    path = request.file("annotations", "TextOCR*.json", "cocotext*.json", first=True)
    found = read_object(path, hint=request.hint, imgs=dict, anns=dict, imgToAnns=dict)
    pictures = request.pictures()

    def entries(row: dict[str, Any]) -> Iterator[Entry]:
        id, image = row["id"], row["image"]
        if not isinstance(image, dict):
            raise ValueError("not a JSON object")
        if not split_of(path) and split_of(str(image.get("set", ""))) not in ("", request.split):
            return  # one file holds all splits
        try:
            words = in_reading_order(_words(found, id))
            if not 1 <= len(words) <= most:
                return
            said = instruction("text_rendering", text=" ".join(word.text for word in words))
            place = pictures.find(text(image, "file_name"))
        except ValueError as error:
            yield Entry(id, reason=str(error))
            return
        boxes = [{"text": word.text, "bbox": list(word[1:])} for word in words]
        metadata = {"image_id": id, "split": request.split, "words": boxes}
        yield instruction_entry(id, said, [place], metadata)

    rows = ({"id": id, "image": image} for id, image in found["imgs"].items())
    return request.source(each_row(rows, "imgs", entries), pictures)


def _words(found: dict[str, Any], image: str) -> list[Word]:
    """The legible ones. `ValueError`: an annotation is missing, or not of its form."""
    words = []
    numbers_of_words = found["imgToAnns"].get(image, [])
    if not isinstance(numbers_of_words, list):
        raise ValueError("'imgToAnns' has no list for it")
    for number in numbers_of_words:
        row = found["anns"].get(str(number))
        if not isinstance(row, dict):
            raise ValueError(f"no annotation {str(number)[:40]}")
        said = text(row, "utf8_string", default="")
        if said not in ("", _ILLEGIBLE) and row.get("legibility") != "illegible":
            words.append(Word(said, *numbers(row, "bbox", 4)))
    return words


def in_reading_order(words: Sequence[Word]) -> list[Word]:
    """Line by line from the top, each from left to right. A word belongs to a line where the middle of its height lies
    between top and bottom of the line's highest word, the last such line."""
    lines: list[list[Word]] = []
    for word in sorted(words, key=lambda word: word.middle):
        line = next((line for line in reversed(lines) if word.middle < line[0].top + line[0].height), None)
        if line is None:
            lines.append([word])
        else:
            line.append(word)
    return [word for line in lines for word in sorted(line, key=lambda word: word.left)]
