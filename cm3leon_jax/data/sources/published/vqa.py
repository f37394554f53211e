"""VQA 2.0 and OK-VQA: questions about COCO's pictures, with ten people's answers each.

…_questions.json: {"data_subtype": "train2014", "questions": [{"question_id", "image_id", "question"}, …]}
…_annotations.json: {"annotations": [{"question_id", "answers": [{"answer", "answer_confidence", …}, …], …}, …]}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry, EntrySource
from cm3leon_jax.data.sources.instructions import instruction, instruction_entry
from cm3leon_jax.data.sources.published.fields import each_row, integer, kept, objects, read_object, text
from cm3leon_jax.data.sources.published.pictures import coco_names
from cm3leon_jax.data.sources.published.request import Request


def vqa2_source(request: Request) -> EntrySource:
    """`vqa2:FOLDER`. Ids are question ids; the questions about a picture are held out together."""
    return _source(request, "v2_*questions.json", "v2_*annotations.json")


def okvqa_source(request: Request) -> EntrySource:
    """`okvqa:FOLDER`, of the same form."""
    return _source(request, "OpenEnded_*questions.json", "mscoco_*annotations.json")


def _source(request: Request, questions: str, annotations: str) -> EntrySource:
    asked_at = request.file("questions", questions, first=True)
    answered_at = request.file("annotations", annotations)
    asked = read_object(asked_at, hint=request.hint, questions=list)
    answered = read_object(answered_at, hint=request.hint, annotations=list)
    by_id = {str(row.get("question_id")): row for row in answered["annotations"] if isinstance(row, dict)}
    pictures = request.pictures()

    def entries(row: dict[str, Any]) -> Iterator[Entry]:
        question, image = integer(row, "question_id"), integer(row, "image_id")
        annotation = by_id.get(str(question))
        try:
            if annotation is None:
                raise ValueError(f"no annotation has question_id {question}")
            said = instruction("vqa", question=text(row, "question"), answer=answers_of(annotation))
            place = pictures.find(*coco_names(image))
        except ValueError as error:
            yield Entry(str(question), reason=str(error), group=str(image))
            return
        metadata = {
            "question_id": question,
            "image_id": image,
            "split": request.split,
            **kept(annotation, "answers", "answer_type", "question_type", "multiple_choice_answer", "confidence"),
        }
        yield instruction_entry(str(question), said, [place], metadata, group=str(image))

    return request.source(each_row(asked["questions"], "questions", entries), pictures)


def answers_of(row: dict[str, Any]) -> list[str]:
    """All answers, equal ones too: what more people said is drawn more often. `ValueError`: there is none."""
    answers = [text(answer, "answer", default="") for answer in objects(row, "answers")]
    if not any(answers):
        raise ValueError("all answers are empty")
    return [answer for answer in answers if answer]
