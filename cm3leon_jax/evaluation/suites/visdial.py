"""The suite `visdial`: a hundred candidates for each answer, ranked by how probable the model finds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cm3leon_jax.evaluation.metrics.visdial import visdial_ndcg, visdial_sparse
from cm3leon_jax.evaluation.suites.asking import Row, ask_likelihoods
from cm3leon_jax.evaluation.suites.data import drawn
from cm3leon_jax.evaluation.suites.result import Count, Figure, Shown, SuiteResult, figures_of
from cm3leon_jax.evaluation.suites.visdial_data import Round
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.runtime.errors import UserError

NAME = "visdial"
_BEST = 3  # candidates that are shown


def visdial(work: Work) -> SuiteResult:
    """NDCG over the rounds in which people judged all candidates; MRR, recall and mean rank of the answer that was
    given, over all rounds. `SuitesConfig.examples` are rounds."""
    config, dialogs = work.config, work.dialogs
    rounds = [each for each in dialogs.rounds if config.visdial_all_rounds or each.relevance is not None]
    rounds = drawn(rounds, config.examples, config.seed)
    if not rounds:
        raise UserError(f"no round of {dialogs.spec} is judged by people; set SuitesConfig.visdial_all_rounds")

    def read_image(place: str) -> np.ndarray:
        return dialogs.image(place, work.models.generator.image_tokenizer.resolution)

    rows = [request_of(each, config.visdial_history) for each in rounds]
    answers = ask_likelihoods(work, NAME, rows, [each.options for each in rounds], read_image)
    scores = [_scores(row, config.length_normalized) for row in answers.rows]
    asked = [rounds[place] for place in answers.places]
    return SuiteResult(
        _figures(scores, asked, config.seed),
        {NAME: Count(dialogs.spec, len(asked), dict(dialogs.left_out), answers.unanswered)},
        [
            _shown(each, of_it, read_image(each.picture))
            for each, of_it in list(zip(asked, scores, strict=True))[: config.shown]
        ],
    )


def request_of(round: Round, history: bool) -> Row:
    """The question in the words of the task `vqa`, its answer a hole; with `history` the caption and the rounds before
    stand in front of it."""
    turns = [f"Question: {_asked(question)} Answer: {answer}." for question, answer in round.before]
    said = [round.caption, *turns] if history else []
    words = " ".join([*said, f"Question: {_asked(round.question)} Answer:"])
    hole = {"hole": "text", "max_tokens": 1}
    return {"id": round.id, "parts": [{"text": words}, hole, {"text": "."}, {"image": round.picture}]}


def _asked(question: str) -> str:
    return question if question.endswith("?") else f"{question}?"


def _scores(row: Row, length_normalized: bool) -> np.ndarray:
    logprobs = np.array(row["logprobs"], np.float64)
    return logprobs / np.array(row["tokens"]) if length_normalized else logprobs


def _figures(scores: Sequence[np.ndarray], rounds: Sequence[Round], seed: int) -> list[Figure]:
    if len({len(each) for each in scores}) > 1:
        raise UserError("rounds of VisDial have different numbers of candidates; name its files as they are published")
    judged = [(one, each.relevance) for one, each in zip(scores, rounds, strict=True) if each.relevance is not None]
    judged = [(one, relevance) for one, relevance in judged if max(relevance) > 0]
    figures = []
    if judged:
        ndcg = visdial_ndcg([one for one, _ in judged], [relevance for _, relevance in judged])
        figures.append(Figure.of_score(NAME, "NDCG", ndcg, seed=seed, percent=True))
    sparse = visdial_sparse(scores, [each.right for each in rounds])
    return figures + figures_of(NAME, sparse, seed=seed, percent=sparse.keys() - {"mean rank"})


def _shown(round: Round, scores: np.ndarray, image: np.ndarray) -> Shown:
    best = np.argsort(-scores, kind="stable")[:_BEST]
    said = [
        (f"{number}.", f"{round.options[place]} ({scores[place]:.2f})") for number, place in enumerate(best, start=1)
    ]
    return Shown(_asked(round.question), [(round.caption, image)], [*said, ("given", round.options[round.right])])
