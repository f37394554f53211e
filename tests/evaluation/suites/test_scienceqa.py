"""ScienceQA: written answers read as options, asked in both wordings."""

import dataclasses

import numpy as np
import pytest
import tiny_generator
from stand_ins import Told, level, work_in

from cm3leon_jax.data.sources.instructions import instruction, instruction_example
from cm3leon_jax.evaluation.suites.data import DataSet
from cm3leon_jax.evaluation.suites.scienceqa import evaluate_scienceqa
from cm3leon_jax.runtime.errors import UserError

QUESTIONS = [  # right option, subject, grade, context
    (0, "natural science", "grade2", "ab"),
    (1, "social science", "grade8", ""),
    (1, "language science", 12, ""),
]


class Split:
    fingerprint = "f"

    def __init__(self, examples):
        self._examples = examples

    def __len__(self):
        return len(self._examples)

    def __getitem__(self, index):
        return self._examples[index]


def science(**changed):
    examples = []
    for number, (right, subject, grade, context) in enumerate(QUESTIONS):
        said = instruction("science", question=f"q{number}", choices="(A) x (B) y", context=context, answer="x", explanation="e")  # fmt: skip # noqa: E501
        metadata = {"answer": right, "subject": subject, "grade": grade, "choices": ["x", "y"]} | changed
        examples.append(instruction_example(f"s{number}", said, [np.full((8, 8, 3), 10 * number, np.uint8)], metadata))
    return DataSet("scienceqa:here", [Split(examples)])


def work_on(directory, generator, data, **settings):
    work = work_in(directory, generator, scienceqa="scienceqa:here", **settings)
    work.data["scienceqa"] = data
    return work


def test_figures_for_known_answers(tmp_path):
    def answer(request, _):
        explained = sum(not isinstance(part, str | np.ndarray) for part in request.parts) == 2
        if explained:
            return ["because", ["(A)", "(B)", "y"][round(level(request) / 10)]]
        return [["(A)", "(A)", "no idea"][round(level(request) / 10)]]

    result = evaluate_scienceqa(work_on(tmp_path, Told(answer), science(), explanation_tokens=7))
    found = {(each.data, each.name): each.value for each in result.figures}
    assert found["without explanation", "Avg"] == pytest.approx(1 / 3)
    assert found["without explanation", "names no option"] == pytest.approx(1 / 3)
    assert found["with explanation", "Avg"] == 1 and found["with explanation", "SOC"] == 1
    assert found["without explanation", "TXT"] == 1 and found["without explanation", "G7-12"] == 0
    assert found["without explanation", "NO"] is None and result.counts["scienceqa"].scored == 3
    assert ("with explanation", "because / (B)") in result.shown[1].lines and ("right", "y") in result.shown[1].lines


def test_a_tiny_model_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_generator, "CONFIG", dataclasses.replace(tiny_generator.CONFIG, max_length=160))
    settings = {"answer_tokens": 2, "explanation_tokens": 2, "examples": 2}
    result = evaluate_scienceqa(work_on(tmp_path, tiny_generator.tiny_generator(), science(), **settings))
    assert {each.data for each in result.figures} == {"without explanation", "with explanation"}
    assert result.counts["scienceqa"].scored == 2


def test_metadata_of_another_form(tmp_path):
    generator = Told(lambda *_: ["(A)"])
    for changed, words in (
        ({"answer": 2}, "lacks answer"),
        ({"grade": "first"}, "lacks"),
        ({"choices": []}, "choices"),
    ):
        with pytest.raises(UserError, match=words):
            evaluate_scienceqa(work_on(tmp_path, generator, science(**changed)))
