"""All metrics of captions at once, from the texts."""

from __future__ import annotations

from collections.abc import Sequence

from cm3leon_jax.evaluation.metrics.bleu import bleu
from cm3leon_jax.evaluation.metrics.checks import check_lengths
from cm3leon_jax.evaluation.metrics.cider import cider_d
from cm3leon_jax.evaluation.metrics.meteor import meteor
from cm3leon_jax.evaluation.metrics.meteor_data import MeteorData
from cm3leon_jax.evaluation.metrics.rouge import rouge_l
from cm3leon_jax.evaluation.metrics.score import Score
from cm3leon_jax.evaluation.metrics.tokenizer import tokenize


def caption_scores(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    meteor_data: MeteorData | None = None,
    corpus: Sequence[Sequence[str]] | None = None,
) -> dict[str, Score]:
    """Texts of N captions and of their references -> "BLEU-1" … "BLEU-4", "ROUGE-L", "CIDEr-D" and "METEOR".

    METEOR is left out without its data, as it would be another metric. `corpus`, the references of each image of
    another set, gives CIDEr-D its document frequencies. `UserError` for captions without references.
    """
    check_lengths(captions=captions, references=references)
    tokens = [tokenize(caption) for caption in captions]
    of_references = _tokenized(references)
    scores = {
        **bleu(tokens, of_references),
        "ROUGE-L": rouge_l(tokens, of_references),
        "CIDEr-D": cider_d(tokens, of_references, corpus=None if corpus is None else _tokenized(corpus)),
    }
    if meteor_data is not None:
        scores["METEOR"] = meteor(tokens, of_references, meteor_data)
    return scores


def _tokenized(references: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    return [[tokenize(caption) for caption in of_one] for of_one in references]
