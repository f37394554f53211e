"""BLEU-1 to BLEU-4 over a corpus."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.evaluation.metrics.checks import Tokens, check_captions
from cm3leon_jax.evaluation.metrics.score import Score

# coco-caption's guards against dividing by nothing; without a match, a score is about 1e-15 instead of none.
_TINY, _SMALL = 1e-15, 1e-9


def bleu(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], *, order: int = 4) -> dict[str, Score]:
    """Tokens of N captions and of their references -> "BLEU-1" … "BLEU-<order>", each 0 … 1.

    Papineni et al., 2002, "BLEU: a method for automatic evaluation of machine translation", section 2.3: the geometric
    mean of clipped n-gram precisions over the corpus, times the brevity penalty, with the reference closest in
    length (the shorter of two equally close), as coco-caption has it. The examples of a score are counts, [N, 2 + 2
    order]: tokens, tokens of the closest reference, n-grams that match and n-grams for n = 1 … order; a row given
    to `of_sums` is that caption's own BLEU. `UserError` for captions without references.
    """
    check_captions(candidates, references)
    counts_Nx = np.array(
        [_counts(candidate, of_it, order) for candidate, of_it in zip(candidates, references, strict=True)], np.int64
    ).reshape(-1, 2 + 2 * order)
    return {f"BLEU-{n}": Score(counts_Nx, of_sums=functools.partial(_bleu_of_counts, n=n)) for n in range(1, order + 1)}


def ngrams(tokens: Tokens, n: int) -> Counter:
    """How often each run of n tokens occurs."""
    return Counter(zip(*(tokens[first:] for first in range(n)), strict=False))


def _counts(candidate: Tokens, references: Sequence[Tokens], order: int) -> list[int]:
    length = len(candidate)
    closest = min((abs(len(reference) - length), len(reference)) for reference in references)[1]
    matches = []
    for n in range(1, order + 1):
        most: Counter = Counter()
        for reference in references:
            most |= ngrams(reference, n)
        matches.append((ngrams(candidate, n) & most).total())
    return [length, closest, *matches, *(max(0, length - n + 1) for n in range(1, order + 1))]


def _bleu_of_counts(sums: np.ndarray, n: int) -> np.ndarray:
    order = (sums.shape[-1] - 2) // 2
    matches, possible = sums[..., 2 : 2 + n], sums[..., 2 + order : 2 + order + n]
    precision = np.prod((matches + _TINY) / (possible + _SMALL), axis=-1) ** (1 / n)
    ratio = (sums[..., 0] + _TINY) / (sums[..., 1] + _SMALL)
    with np.errstate(over="ignore"):
        return precision * np.exp(np.minimum(0, 1 - 1 / ratio))
