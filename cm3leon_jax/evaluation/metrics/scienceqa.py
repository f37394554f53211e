"""ScienceQA: accuracy of chosen options, in the columns of its table, and options read from generated answers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.evaluation.metrics.checks import check_lengths
from cm3leon_jax.evaluation.metrics.score import Score, mean_score
from cm3leon_jax.runtime.errors import UserError

_SUBJECTS = {"NAT": "natural science", "SOC": "social science", "LAN": "language science"}
_LETTER = r"\(?([A-Z])\)?(?![\w'\u2019])"
# Letters are capitals, or stand in brackets or alone: else "a" in "the answer is a plant" would be option A.
_STATED = re.compile(
    rf"(?i:\b(?:answer|option|choice)\s*(?:is|:)?\s*(?:option\s*)?){_LETTER}|(?i:\banswer\s+is\s*)\(([a-z])\)"
)
_ALONE = re.compile(r"\s*(?:\(([A-Za-z])\)|([A-Za-z])[.):]|([A-Za-z])\s*$)")


@dataclasses.dataclass(frozen=True)
class Question:
    """What ScienceQA's table groups by: `subject` and `grade` (1 … 12) as in its release, and the kinds of context.

    `answer` is the index of the right option. `has_text`: the question has a hint; `has_image`: it has a picture.
    `UserError` for unknown subjects and grades.
    """

    answer: int
    subject: str
    grade: int
    has_text: bool
    has_image: bool

    def __post_init__(self) -> None:
        if self.subject not in _SUBJECTS.values() or not 1 <= self.grade <= 12:
            raise UserError(
                f"a question has subject {self.subject!r} and grade {self.grade}; ScienceQA has "
                f"{', '.join(_SUBJECTS.values())}, and grades 1 to 12"
            )


def scienceqa(choices: Sequence[int | None], questions: Sequence[Question]) -> dict[str, Score]:
    """The option chosen for each question (None: none could be read, which is wrong) -> accuracies, 0 … 1.

    The columns of Lu et al., 2022, "Learn to explain: multimodal reasoning via thought chains for science question
    answering", main table: "NAT", "SOC", "LAN" (subject), "TXT", "IMG", "NO" (context; a question with both text and
    image counts in both), "G1-6", "G7-12" (grade) and "Avg". The authors draw an option at random where none can be
    read. `UserError` where there is not one choice for each question.
    """
    check_lengths(choices=choices, questions=questions)
    columns = {
        **{column: [question.subject == subject for question in questions] for column, subject in _SUBJECTS.items()},
        "TXT": [question.has_text for question in questions],
        "IMG": [question.has_image for question in questions],
        "NO": [not question.has_text and not question.has_image for question in questions],
        "G1-6": [question.grade <= 6 for question in questions],
        "G7-12": [question.grade > 6 for question in questions],
        "Avg": [True for _ in questions],
    }
    right_N = np.array([choice == question.answer for choice, question in zip(choices, questions, strict=True)], bool)
    return {column: mean_score(right_N[np.array(rows, bool)]) for column, rows in columns.items()}


def read_choice(answer: str, options: Sequence[str]) -> int | None:
    """A generated answer and the texts of its options -> the index of the option that it names, or None.

    Read in this order: a letter that is said to be the answer ("The answer is (B)."; the last such, as reasoning
    comes before it), a letter at the start ("B", "(b) plants", "B. plants"), an option's text as the whole answer,
    and the one option whose text occurs in it (the longest, where one occurs within another).
    """
    for letter in reversed([match[1] or match[2] for match in _STATED.finditer(answer)]):
        if (index := _index(letter)) < len(options):
            return index
    if match := _ALONE.match(answer):
        index = _index(match[1] or match[2] or match[3])
        if index < len(options):
            return index
    said, texts = _plain(answer), [_plain(option) for option in options]
    if texts.count(said) == 1:
        return texts.index(said)
    occurring = {text for text in texts if text and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", said)}
    longest = [text for text in occurring if not any(text != other and text in other for other in occurring)]
    return texts.index(longest[0]) if len(longest) == 1 and texts.count(longest[0]) == 1 else None


def _index(letter: str) -> int:
    return ord(letter.upper()) - ord("A")


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .!?\"'")
