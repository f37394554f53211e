"""The suites `vqa2`, `okvqa` and `vizwiz`: short answers to questions about pictures (CM3Leon §4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cm3leon_jax.evaluation.metrics.score import Score
from cm3leon_jax.evaluation.metrics.vqa import (
    check_answers,
    check_okvqa_answers,
    okvqa_accuracy,
    vizwiz_accuracy,
    vizwiz_answerability,
    vqa_accuracy,
)
from cm3leon_jax.evaluation.suites.asking import Answers, Row, ask, ask_likelihoods
from cm3leon_jax.evaluation.suites.data import DataSet, Described, drawn
from cm3leon_jax.evaluation.suites.result import Count, Figure, Shown, SuiteResult, figures_of
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import write_json

SUBMISSION_FILE = "submission.json"  # as the evaluation servers take it
UNANSWERABLE = "unanswerable"


def vqa2(work: Work) -> SuiteResult:
    """Accuracy of the answers, by all questions and by `answer_type`."""
    return _Vqa(work, "vqa2", check_answers).result(vqa_accuracy)


def okvqa(work: Work) -> SuiteResult:
    """Accuracy against OKVQA's stemmed answers."""
    return _Vqa(work, "okvqa", check_okvqa_answers).result(okvqa_accuracy)


def vizwiz(work: Work) -> SuiteResult:
    """Accuracy, and how well questions are found that cannot be answered: one is the likelier to be answerable the
    less probable the model finds the answer "unanswerable"."""
    asked = _Vqa(work, "vizwiz", check_answers)
    every = [_answerable(example) for example in asked.examples]
    result = asked.result(vizwiz_accuracy)
    scored = asked.likelihoods([UNANSWERABLE])
    labels = [every[place] for place in scored.places]
    probable = np.exp([row["logprobs"][0] for row in scored.rows])
    more = vizwiz_answerability(labels, np.clip(1 - probable, 0, 1))
    figures = [
        Figure.of_score("vizwiz", f"answerability, {name}", score, seed=work.config.seed, percent=True)
        for name, score in more.items()
    ]
    return SuiteResult([*result.figures, *figures], result.counts, result.shown, result.notes)


class _Vqa:
    """The questions of a data set, asked. Raises `UserError` where people's answers are not as `check` needs them."""

    def __init__(self, work: Work, name: str, check: Callable[[Sequence[Sequence[str]]], None]):
        self.work, self.name = work, name
        self.data: DataSet = work.open(name)
        self.examples = drawn(self.data.examples, work.config.examples, work.config.seed)
        self.rows: list[Row] = [
            {
                "id": each.id,
                "task": "vqa",
                "image": str(each.place),
                "question": each.fields("vqa", self.data.spec)["question"],
            }
            for each in self.examples
        ]
        self.references = [answers_of(each, self.data.spec) for each in self.examples]
        check(self.references)

    def read_image(self, place: str) -> np.ndarray:
        return self.data.image(int(place), self.work.models.generator.image_tokenizer.resolution)

    def likelihoods(self, candidates: Sequence[str]) -> Answers:
        """How probable each of the candidates is as the answer of each question."""
        return ask_likelihoods(
            self.work, f"{self.name}_likelihoods", self.rows, [candidates] * len(self.rows), self.read_image
        )

    def result(self, accuracy: Callable[[Sequence[str], Sequence[Sequence[str]]], Score]) -> SuiteResult:
        work, config = self.work, self.work.config
        answers = ask(
            work, self.name, self.rows, self.read_image, sampling=work.text_sampling, max_tokens=config.answer_tokens
        )
        texts = answers.best_texts()
        examples = [self.examples[place] for place in answers.places]
        references = [self.references[place] for place in answers.places]
        scores = {"accuracy": accuracy(texts, references)}
        values = scores["accuracy"].examples
        kinds = [str(each.metadata.get("answer_type", "")) for each in examples]
        for kind in sorted(set(kinds) - {""}):
            scores[f"accuracy, {kind}"] = Score(values[np.array([each == kind for each in kinds])])
        if hosts.is_first():
            write_json(work.directory / SUBMISSION_FILE, submission(examples, texts))
        return SuiteResult(
            figures_of(self.name, scores, seed=config.seed, percent=True),
            {self.name: Count(self.data.spec, len(texts), dict(self.data.left_out), answers.unanswered)},
            [
                Shown(
                    self.rows[place]["question"],
                    [("", self.read_image(self.rows[place]["image"]))],
                    [("answer", text), ("people", ", ".join(_counted(of_it))), ("accuracy", f"{value:.2f}")],
                )
                for place, text, of_it, value in list(zip(answers.places, texts, references, values, strict=True))[
                    : config.shown
                ]
            ],
        )


def answers_of(example: Described, spec: str) -> list[str]:
    """What people answered, in the order of the data set. Raises `UserError` where it is not there."""
    try:
        return [str(answer["answer"]) for answer in example.metadata["answers"]]
    except (KeyError, TypeError):
        raise UserError(
            f'example {example.id} of {spec} has no answers of the form [{{"answer": …}}, …]; name the data set in its '
            "published form"
        ) from None


def submission(examples: Sequence[Described], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Answers in the form of the data sets' evaluation servers."""
    keys = [
        {"question_id": each.metadata["question_id"]} if "question_id" in each.metadata else {"image": each.picture}
        for each in examples
    ]
    return [key | {"answer": text} for key, text in zip(keys, texts, strict=True)]


def _answerable(example: Described) -> int:
    label = example.metadata.get("answerable")
    if label not in (0, 1):
        raise UserError(f"example {example.id} does not say whether it is answerable (0 or 1); name VizWiz's own file")
    return int(label)


def _counted(answers: Sequence[str]) -> list[str]:
    """Different answers, the most frequent first, with how many gave them."""
    counts = {answer: answers.count(answer) for answer in answers}
    return [f"{answer} ({count})" for answer, count in sorted(counts.items(), key=lambda each: -each[1])]
