"""ROUGE-L of captions."""

from __future__ import annotations

from collections.abc import Sequence

from cm3leon_jax.evaluation.metrics.checks import Tokens, check_captions
from cm3leon_jax.evaluation.metrics.score import Score, mean_score

BETA = 1.2  # coco-caption's: recall weighs 1.44 times as much as precision


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Score:
    """Tokens of N captions and of their references -> the mean F-measure of longest common subsequences, 0 … 1.

    Lin, 2004, "ROUGE: a package for automatic evaluation of summaries", section 3, as coco-caption has it: the best
    precision and the best recall over the references, which may come from two of them. `UserError` for captions
    without references.
    """
    check_captions(candidates, references)
    return mean_score([_f_measure(candidate, of_it) for candidate, of_it in zip(candidates, references, strict=True)])


def _f_measure(candidate: Tokens, references: Sequence[Tokens]) -> float:
    # An empty caption counts as one empty token, so that it equals an empty reference and nothing else.
    candidate = candidate or [""]
    common = [
        (longest_common_subsequence(candidate, reference or [""]), len(reference or [""])) for reference in references
    ]
    precision = max(length for length, _ in common) / len(candidate)
    recall = max(length / of for length, of in common)
    if not precision:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common_subsequence(first: Tokens, second: Tokens) -> int:
    """The length of the longest subsequence that both have, in tokens."""
    above = [0] * (len(second) + 1)
    for token in first:
        row = [0]
        for column, other in enumerate(second):
            row.append(above[column] + 1 if token == other else max(above[column + 1], row[-1]))
        above = row
    return above[-1]
