"""The suite `scienceqa`: the option that a written answer names, asked at once and with an explanation first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from cm3leon_jax.evaluation.metrics.scienceqa import Question, read_choice, scienceqa
from cm3leon_jax.evaluation.metrics.score import mean_score
from cm3leon_jax.evaluation.suites.asking import Row, ask
from cm3leon_jax.evaluation.suites.data import Described, drawn
from cm3leon_jax.evaluation.suites.result import Count, Figure, Shown, SuiteResult, figures_of
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.runtime.errors import UserError

NAME = "scienceqa"
_GIVEN = ("question", "choices", "context")  # fields of the task
_WORDINGS = {"without explanation": 0, "with explanation": 1}  # of the task


def evaluate_scienceqa(work: Work) -> SuiteResult:
    """Accuracy in the columns of ScienceQA's table, by both wordings, and the share of answers that name no option,
    which count as wrong. Questions have pictures, as in the paper's fine-tuning data."""
    config, data = work.config, work.open(NAME)
    examples = drawn(data.examples, config.examples, config.seed)
    questions = [question_of(example, data.spec) for example in examples]
    figures: list[Figure] = []
    said: dict[str, dict[int, str]] = {}
    unanswered: dict[str, int] = {}
    scored = len(examples)

    def read_image(place: str) -> np.ndarray:
        return data.image(int(place), work.models.generator.image_tokenizer.resolution)

    for condition, wording in _WORDINGS.items():
        rows = [_row(example, wording, data.spec) for example in examples]
        name = f"wording_{wording}"
        tokens = config.explanation_tokens if wording else config.answer_tokens
        answers = ask(work, name, rows, read_image, sampling=work.text_sampling, max_tokens=tokens)
        texts = answers.best_texts(-1)
        chosen = [
            read_choice(text, options_of(examples[place], data.spec))
            for place, text in zip(answers.places, texts, strict=True)
        ]
        asked = [questions[place] for place in answers.places]
        figures += figures_of(condition, scienceqa(chosen, asked), seed=config.seed, percent=True)
        unread = mean_score([choice is None for choice in chosen])
        figures.append(Figure.of_score(condition, "names no option", unread, seed=config.seed, percent=True))
        said[condition] = {
            place: " / ".join(row["answers"][0]["answer"])
            for place, row in zip(answers.places, answers.rows, strict=True)
        }
        unanswered |= {f"{reason}, {condition}": number for reason, number in answers.unanswered.items()}
        scored = min(scored, len(asked))
    # Those that were answered have pictures that can be decoded.
    answered = [each for each in enumerate(examples) if any(each[0] in texts_of for texts_of in said.values())]
    shown = [
        Shown(
            str(example.fields("science", data.spec)["question"]),
            [("", read_image(str(example.place)))],
            [
                ("options", ", ".join(options_of(example, data.spec))),
                *((condition, texts_of.get(place, "—")) for condition, texts_of in said.items()),
                ("right", options_of(example, data.spec)[questions[place].answer]),
            ],
        )
        for place, example in answered[: config.shown]
    ]
    return SuiteResult(figures, {NAME: Count(data.spec, scored, dict(data.left_out), unanswered)}, shown)


def question_of(example: Described, spec: str) -> Question:
    """What the metric groups by. Raises `UserError` where the metadata has it not as ScienceQA's release does."""
    metadata, options = example.metadata, options_of(example, spec)
    answer, subject = metadata.get("answer"), metadata.get("subject")
    grade = re.fullmatch(r"(?:grade)?(\d+)", str(metadata.get("grade")))
    if not isinstance(answer, int) or not 0 <= answer < len(options) or not isinstance(subject, str) or grade is None:
        raise UserError(
            f"example {example.id} of {spec} lacks answer (a number), subject or grade in its metadata; name ScienceQA "
            "in its published form"
        )
    try:
        return Question(answer, subject, int(grade[1]), has_text=bool(metadata.get("has_hint")), has_image=True)
    except UserError as error:
        raise UserError(f"example {example.id} of {spec}: {error}") from None


def options_of(example: Described, spec: str) -> Sequence[str]:
    """The texts of the options. Raises `UserError` where there are none."""
    options = example.metadata.get("choices")
    if not isinstance(options, list) or not options or not all(isinstance(each, str) for each in options):
        raise UserError(f"example {example.id} of {spec} has no list of choices; name ScienceQA in its published form")
    return options


def _row(example: Described, wording: int, spec: str) -> Row:
    given: dict[str, Any] = example.fields("science", spec)
    fields = {name: given[name] if isinstance(given[name], str) else given[name][0] for name in _GIVEN if name in given}
    return {"id": example.id, "task": "science", "image": str(example.place), "wording": wording} | fields
