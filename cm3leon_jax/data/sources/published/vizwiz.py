"""VizWiz-VQA: pictures and questions of blind people, with ten answers each; some cannot be answered.

train.json: [{"image": "VizWiz_train_00000000.jpg", "question", "answers": [{"answer", "answer_confidence"}, …],
              "answer_type", "answerable"}, …]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry, EntrySource
from cm3leon_jax.data.sources.instructions import instruction, instruction_entry
from cm3leon_jax.data.sources.published.fields import each_row, kept, read_list, text
from cm3leon_jax.data.sources.published.request import Request
from cm3leon_jax.data.sources.published.vqa import answers_of


def vizwiz_source(request: Request) -> EntrySource:
    """`vizwiz:FOLDER`. An id is the name of the picture, about which there is one question. What cannot be answered
    has the answer that people gave, "unanswerable"."""
    path = request.file("annotations", f"{request.split}.json", first=True)
    pictures = request.pictures()

    def entries(row: dict[str, Any]) -> Iterator[Entry]:
        image = text(row, "image")
        try:
            said = instruction("vqa", question=text(row, "question"), answer=answers_of(row))
            place = pictures.find(image)
        except ValueError as error:
            yield Entry(image, reason=str(error))
            return
        metadata = {"image_id": image, "split": request.split, **kept(row, "answers", "answer_type", "answerable")}
        yield instruction_entry(image, said, [place], metadata)

    return request.source(each_row(read_list(path, hint=request.hint), "rows", entries), pictures)
