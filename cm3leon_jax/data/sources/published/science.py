"""ScienceQA: questions of school science with choices, explanations, and pictures for about half of them. Two forms.

problems.json: {"1": {"question", "choices": […], "answer": 0, "hint", "image": "image.png" or null, "solution",
    "subject", "grade", …, "split": "train"}, …}, pictures at images/train/1/image.png or train/1/image.png
parquet, on the Hugging Face Hub: the same columns, the picture in `image`; the files' names tell the split
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.data.sources.entries import Entry, EntrySource, printable
from cm3leon_jax.data.sources.files import FileSource
from cm3leon_jax.data.sources.instructions import instruction, instruction_entry
from cm3leon_jax.data.sources.published.fields import each_row, integer, kept, read_object, text
from cm3leon_jax.data.sources.published.request import Request
from cm3leon_jax.data.sources.published.tables import Place, table_source
from cm3leon_jax.runtime.files import as_path

_KEPT = ("subject", "topic", "category", "skill", "grade", "task")


def scienceqa_source(request: Request) -> EntrySource | FileSource:
    """`scienceqa:FOLDER` with problems.json, or `scienceqa:PATTERN` of parquet files. Questions without a picture are
    left out. An id is the problem's, or the file and the row."""
    path = as_path(request.where)
    if "problems" in request.options or path.name.endswith(".json") or (path / "problems.json").exists():
        return _of_problems(request)

    def make(row: dict[str, Any], id: str, places: list[Place]) -> Entry:
        return _entry(id, row, places[0], {"question_id": id, "split": request.split})

    return table_source(request, ("image",), ("question", "choices", "answer"), make, skip_without="image")


def _of_problems(request: Request) -> EntrySource:
    problems = read_object(request.file("problems", "problems.json", first=True), hint=request.hint)
    pictures = request.pictures()

    def entries(row: dict[str, Any]) -> Iterator[Entry]:
        id, problem = printable(row["id"]), row["problem"]
        try:
            if not isinstance(problem, dict):
                raise ValueError("not a JSON object")
            split = {"validation": "val"}.get(text(problem, "split"), problem["split"])
            if split != request.split or not problem.get("image"):
                return
            path = f"{problem['split']}/{row['id']}/{text(problem, 'image')}"
            place = pictures.at(f"images/{path}", path)
            yield _entry(id, problem, place, {"question_id": id, "split": split})
        except ValueError as error:
            yield Entry(id, reason=str(error))

    rows = ({"id": id, "problem": problem} for id, problem in problems.items())
    return request.source(each_row(rows, "problems", entries), pictures)


def _entry(id: str, row: dict[str, Any], place: Any, metadata: dict[str, Any]) -> Entry:
    """`ValueError` where the question, its choices or the answer are missing."""
    choices, answer = row.get("choices"), integer(row, "answer")
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(string.ascii_uppercase):
        raise ValueError("'choices' is no list of 2 to 26 texts")
    if answer >= len(choices):
        raise ValueError(f"answer {answer} is none of {len(choices)} choices")
    texts = [text({"choice": choice}, "choice") for choice in choices]
    hint, solution = text(row, "hint", default=""), text(row, "solution", default="")
    fields = {
        "question": text(row, "question"),
        "context": hint,
        "choices": " ".join(f"({letter}) {choice}" for letter, choice in zip(string.ascii_uppercase, texts)),  # noqa: B905
        "answer": f"({string.ascii_uppercase[answer]})",
    }
    if solution:
        fields["explanation"] = solution
    metadata = {
        **metadata,
        "choices": texts,
        "answer": answer,
        "has_hint": bool(hint),
        "has_lecture": bool(text(row, "lecture", default="")),
        "has_solution": bool(solution),
        **kept(row, *_KEPT),
    }
    return instruction_entry(id, instruction("science", **fields), [place], metadata)
