"""VQA accuracy: how many of ten people gave the answer that the model gives; for VQA v2, OKVQA and VizWiz."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cm3leon_jax.evaluation.metrics.checks import check_lengths
from cm3leon_jax.evaluation.metrics.score import Score, mean_score
from cm3leon_jax.evaluation.metrics.vqa_answers import normalize_answer
from cm3leon_jax.runtime.errors import UserError


def vqa_accuracy(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> Score:
    """A prediction and the answers of ten people for each question [N] -> the mean accuracy, 0 … 1.

    Antol et al., 2015, "VQA: visual question answering": min(matches / 3, 1), averaged over
    all sets of nine of the ten answers. As the evaluation of VQA v2 has it, both sides go through
    `normalize_answer`, unless all people gave one answer: then the prediction has to be that, letter for letter.
    `UserError` for questions with fewer than two answers.
    """
    check_lengths(predictions=predictions, answers=answers)
    check_answers(answers)
    return mean_score([_vqa_v2(prediction, of_it) for prediction, of_it in zip(predictions, answers, strict=True)])


def okvqa_accuracy(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> Score:
    """VQA accuracy on OKVQA, 0 … 1: five answers count twice each, as its release repeats them; ten are as they are.

    Marino et al., 2019, "OK-VQA". Its release has the answers stemmed ("answer") and as given
    ("raw_answer"); its evaluation compares with the former. `UserError` for other numbers of answers.
    """
    check_okvqa_answers(answers)
    return vqa_accuracy(predictions, [[*of_it, *of_it] if len(of_it) == 5 else list(of_it) for of_it in answers])


def vizwiz_accuracy(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> Score:
    """A prediction and ten answers for each question [N] -> the mean accuracy on VizWiz, 0 … 1.

    Gurari et al., 2018, "VizWiz grand challenge": VQA accuracy, with only the prediction normalised, since
    the release has the people's answers in that form. "unanswerable" is an answer as any other. (The table of
    contractions of its evaluation code has typographic apostrophes, which no released answer has; here they are
    plain.) `UserError` for questions with fewer than two answers.
    """
    check_lengths(predictions=predictions, answers=answers)
    check_answers(answers)
    pairs = zip(predictions, answers, strict=True)
    return mean_score([_leave_one_out(_matches(normalize_answer(given), of_it), len(of_it)) for given, of_it in pairs])


def vizwiz_answerability(answerable: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, Score]:
    """Whether each question can be answered [N] and how likely the model finds it (0 … 1) [N] -> "average precision"
    and "F1" of finding the questions that cannot, 0 … 1.

    F1 takes those for unanswerable that the model finds less than half likely to be answerable. `UserError` for
    lists of different lengths, labels other than 0 and 1, and predictions outside 0 … 1.
    """
    labels_N, predicted_N = np.asarray(answerable, np.float64), np.asarray(predicted, np.float64)
    if labels_N.ndim != 1 or labels_N.shape != predicted_N.shape or not np.isin(labels_N, (0, 1)).all():
        raise UserError(f"answerable {labels_N.shape} has to be 0 or 1 for each prediction {predicted_N.shape}")
    if not ((predicted_N >= 0) & (predicted_N <= 1)).all():
        raise UserError("predicted answerability has to be from 0 to 1; give probabilities, not logits")
    wanted_N, found_N = labels_N == 0, 1.0 - predicted_N > 0.5
    counts_Nx3 = np.stack([wanted_N & found_N, found_N, wanted_N], axis=1).astype(np.int64)
    return {
        "average precision": Score(
            np.stack([wanted_N, 1.0 - predicted_N], axis=1),
            of_examples=lambda rows: average_precision(rows[:, 0], rows[:, 1]),
        ),
        "F1": Score(counts_Nx3, of_sums=_f1),
    }


def average_precision(relevant: np.ndarray, scores: np.ndarray) -> float:
    """Relevance (0 or 1) [N] and scores [N] -> the area under the steps of precision over recall, 0 … 1.

    Equal scores are one step. 0 where nothing is relevant.
    """
    order_N = np.argsort(-scores, kind="stable")
    hits_N = np.cumsum(relevant[order_N])
    last_of_step_S = np.append(np.flatnonzero(np.diff(scores[order_N])), len(scores) - 1)
    hits_S = hits_N[last_of_step_S]
    if not hits_S[-1]:
        return 0.0
    return float((np.diff(hits_S, prepend=0) * hits_S / (last_of_step_S + 1)).sum() / hits_S[-1])


def _f1(sums: np.ndarray) -> np.ndarray:
    hits, found_and_wanted = sums[..., 0], sums[..., 1] + sums[..., 2]
    return 2 * hits / np.maximum(found_and_wanted, 1)


def check_answers(answers: Sequence[Sequence[str]]) -> None:
    """`UserError` where a question has fewer than two people's answers."""
    for number, of_it in enumerate(answers):
        if isinstance(of_it, str) or len(of_it) < 2:
            raise UserError(
                f"question {number} has no list of answers; VQA accuracy compares with several people's (ten)"
            )


def check_okvqa_answers(answers: Sequence[Sequence[str]]) -> None:
    """`UserError` where a question has other than five or ten answers."""
    check_answers(answers)
    for number, of_it in enumerate(answers):
        if len(of_it) not in (5, 10):
            raise UserError(
                f"question {number} has {len(of_it)} answers; OKVQA has five for each, or ten when repeated"
            )


def _vqa_v2(prediction: str, answers: Sequence[str]) -> float:
    given, stripped = _stripped(prediction), [_stripped(answer) for answer in answers]
    if len(set(stripped)) > 1:
        given, stripped = normalize_answer(given), [normalize_answer(answer) for answer in stripped]
    return _leave_one_out(_matches(given, stripped), len(stripped))


def _stripped(text: str) -> str:
    return re.sub(r"[\n\t]", " ", text).strip()


def _matches(given: str, answers: Sequence[str]) -> int:
    return sum(answer == given for answer in answers)


def _leave_one_out(matches: int, people: int) -> float:
    """The mean of min(matches / 3, 1) over the sets of all people but one."""
    one_match_left_out, none_left_out = min((matches - 1) / 3, 1), min(matches / 3, 1)
    return (matches * one_match_left_out + (people - matches) * none_left_out) / people
