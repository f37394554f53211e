"""CIDEr-D: how much a caption shares with its references of what is rare in captions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.evaluation.metrics.bleu import ngrams
from cm3leon_jax.evaluation.metrics.checks import Tokens, check_captions
from cm3leon_jax.evaluation.metrics.score import Score, mean_score
from cm3leon_jax.runtime.errors import UserError

SIGMA = 6.0  # tokens: the length difference at which the penalty is exp(-1/2)
ORDER = 4


def cider_d(
    candidates: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    *,
    corpus: Sequence[Sequence[Tokens]] | None = None,
) -> Score:
    """Tokens of N captions and of their references -> the mean CIDEr-D, 0 … 10 (tables print it times 100 or as is).

    Vedantam et al., 2015, "CIDEr: consensus-based image description evaluation": its CIDEr-D, with n = 1 … 4 and
    sigma = 6. In how many images an n-gram occurs is counted in `references`, or in `corpus` (the references of
    each image of another set), which a score of few images needs: with one image alone every n-gram weighs nothing.
    A bootstrap interval keeps these counts fixed. `UserError` for captions without references and an empty corpus.
    """
    check_captions(candidates, references)
    images = references if corpus is None else corpus
    if len(candidates) and not len(images):
        raise UserError("the corpus for CIDEr-D is empty; give the references of its images, or none to use your own")
    frequency = document_frequency(images)
    weigh = _Weights(frequency, math.log(max(1, len(images))))
    return mean_score(
        [_cider_d(weigh, candidate, of_it) for candidate, of_it in zip(candidates, references, strict=True)]
    )


def document_frequency(images: Sequence[Sequence[Tokens]]) -> Counter:
    """Tokens of the references of each image -> in how many images each n-gram (n = 1 … 4) occurs."""
    frequency: Counter = Counter()
    for references in images:
        frequency.update(
            {ngram for reference in references for n in range(1, ORDER + 1) for ngram in ngrams(reference, n)}
        )
    return frequency


class _Weights:
    def __init__(self, frequency: Counter, log_images: float):
        self.frequency, self.log_images = frequency, log_images

    def __call__(self, tokens: Tokens) -> list[tuple[dict, float]]:
        """For each n, the weight of every n-gram of a caption, and the norm of these weights."""
        vectors = []
        for n in range(1, ORDER + 1):
            weights = {
                ngram: count * (self.log_images - math.log(max(1, self.frequency[ngram])))
                for ngram, count in ngrams(tokens, n).items()
            }
            vectors.append((weights, math.sqrt(sum(weight**2 for weight in weights.values()))))
        return vectors


def _cider_d(weigh: _Weights, candidate: Tokens, references: Sequence[Tokens]) -> float:
    of_candidate = weigh(candidate)
    similarities = [
        _similarity(of_candidate, weigh(reference)) * _penalty(candidate, reference) for reference in references
    ]
    return 10 * float(np.mean(similarities))


def _similarity(candidate: list[tuple[dict, float]], reference: list[tuple[dict, float]]) -> float:
    """The mean over n of cosines, with the candidate's weights clipped at the reference's."""
    total = 0.0
    for (ours, our_norm), (theirs, their_norm) in zip(candidate, reference, strict=True):
        product = sum(min(weight, theirs[ngram]) * theirs[ngram] for ngram, weight in ours.items() if ngram in theirs)
        total += product / (our_norm * their_norm) if our_norm and their_norm else product
    return total / ORDER


def _penalty(candidate: Tokens, reference: Tokens) -> float:
    # The reference implementation counts a caption's bigrams as its length: one token is as long as none.
    difference = max(0, len(candidate) - 1) - max(0, len(reference) - 1)
    return math.exp(-(difference**2) / (2 * SIGMA**2))
