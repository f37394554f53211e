"""METEOR 1.5 of captions."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.evaluation.metrics.checks import Tokens, check_captions
from cm3leon_jax.evaluation.metrics.meteor_align import align, chunks
from cm3leon_jax.evaluation.metrics.meteor_data import MeteorData
from cm3leon_jax.evaluation.metrics.meteor_matches import Knowledge
from cm3leon_jax.evaluation.metrics.meteor_text import normalize
from cm3leon_jax.evaluation.metrics.score import Score

# Tuned to rank translations (English): precision against recall, and how much fragmentation costs.
_ALPHA, _BETA, _GAMMA = 0.85, 0.2, 0.6
_CONTENT = 0.75  # what content words weigh; function words weigh the rest
_MODULE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase
_LONGEST_PHRASE = 7  # words, in the table of paraphrases


def meteor(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], data: MeteorData | None = None
) -> Score:
    """Tokens of N captions and of their references -> METEOR over the corpus, 0 … 1.

    Denkowski and Lavie, 2014, "Meteor universal: language specific translation evaluation for any target language",
    section 2, with the parameters of METEOR 1.5 for English and its option -norm, as coco-caption calls it. With
    `data` (`read_meteor_data`), the score is that of the official jar. Without, words match where they or their
    stems are equal and all weigh the same: that is another metric, not to be compared with published figures.

    The examples of the score are counts, [N, 21], with the reference that scores best for each caption; a row given to
    `of_sums` is that caption's own score. `UserError` for captions without references.
    """
    check_captions(candidates, references)
    prefixes = data.prefixes if data else {}
    tests = [normalize(" ".join(candidate), prefixes) for candidate in candidates]
    texts = [[normalize(" ".join(reference), prefixes) for reference in of_it] for of_it in references]
    knowledge = _knowledge(data, [*tests, *(text for of_it in texts for text in of_it)])
    function_words = data.function_words if data else frozenset()
    counts = []
    for test, of_it in zip(tests, texts, strict=True):
        rows = np.array([_counts(test, reference, knowledge, function_words) for reference in of_it])
        counts.append(rows[np.argmax(_meteor_of_counts(rows, _CONTENT))])
    return Score(
        np.array(counts, np.int64).reshape(-1, 21), of_sums=functools.partial(_meteor_of_counts, content=_CONTENT)
    )


def _knowledge(data: MeteorData | None, texts: Sequence[Sequence[str]]) -> Knowledge:
    if data is None:
        return Knowledge(None, {})
    phrases = {
        " ".join(text[start:end])
        for text in texts
        for start in range(len(text))
        for end in range(start + 1, min(start + _LONGEST_PHRASE, len(text)) + 1)
    }
    return Knowledge(functools.cache(data.synonym_sets), data.paraphrases_of(phrases))


def _counts(test: list[str], reference: list[str], knowledge: Knowledge, function_words: frozenset[str]) -> list[int]:
    """Words and function words of both; matched ones of both by module, content then function; chunks."""
    is_function = [word in function_words for word in test]
    is_function_there = [word in function_words for word in reference]
    matches = align(test, reference, knowledge)
    matched = np.zeros((2, 4, 2), np.int64)  # side, module, content or function
    for module, start, length, test_start, test_length in matches:
        for function in is_function[test_start : test_start + test_length]:
            matched[0, module, int(function)] += 1
        for function in is_function_there[start : start + length]:
            matched[1, module, int(function)] += 1
    runs = chunks(matches)
    # A caption whose words all match in one run is not fragmented.
    whole = runs == 1 and matched[0].sum() == len(test) and matched[1].sum() == len(reference)
    lengths = [len(test), sum(is_function), len(reference), sum(is_function_there)]
    return [*lengths, *matched.ravel().tolist(), 0 if whole else runs]


def _meteor_of_counts(sums: np.ndarray, content: float) -> np.ndarray:
    sums = np.asarray(sums, np.float64)
    matched = sums[..., 4:20].reshape(*sums.shape[:-1], 2, 4, 2)
    by_kind = np.array([content, 1 - content])
    weighted = np.einsum("...smk,m,k->...s", matched, _MODULE_WEIGHTS, by_kind)
    lengths, function = sums[..., 0:4:2], sums[..., 1:4:2]
    of = (lengths - function) * content + function * (1 - content)
    words = matched.sum(axis=(-3, -2, -1)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(weighted / of, -1, 0)
        mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        score = mean * (1 - _GAMMA * (sums[..., 20] / words) ** _BETA)
    return np.where(words > 0, np.maximum(np.nan_to_num(score), 0), 0.0)
