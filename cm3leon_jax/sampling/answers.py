"""What was drawn, as texts and pictures, and the samples of a prompt in the order of their scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.sampling.best_of import Encoder, clip_scores
from cm3leon_jax.sampling.generate import Generation
from cm3leon_jax.sampling.parts import decode_with_holes
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
from cm3leon_jax.tokenizers.text import TextTokenizer

_PICTURES_AT_ONCE = 256  # are decoded and scored


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """The documents asked for, with what was drawn: their pictures, uint8 [R, R, 3] each, and their texts."""

    images: list[np.ndarray]
    texts: list[str]
    answer: list[str]  # of the texts what was drawn: one for each hole, in the order in which they are read
    logprob: float  # nats: of what was drawn, under the model with everything given, at temperature 1
    clip_score: float | None  # cosine of the last picture with its text; None without a retriever, or without either

    @property
    def score(self) -> float:
        """What samples of one prompt are ranked by."""
        return self.logprob if self.clip_score is None else self.clip_score


def ranked(
    results: Sequence[Sequence[Generation]],
    text_tokenizer: TextTokenizer,
    image_tokenizer: ImageTokenizer,
    encoder: Encoder | None,
) -> list[list[Drawn]]:
    """The samples of each prompt, the best first; of equals the first."""
    everything = [one for each in results for one in each]
    drawn = iter(
        one
        for first in range(0, len(everything), _PICTURES_AT_ONCE)
        for one in _drawn(everything[first : first + _PICTURES_AT_ONCE], text_tokenizer, image_tokenizer, encoder)
    )
    return [sorted((next(drawn) for _ in each), key=lambda one: -one.score) for each in results]


def _drawn(
    generations: Sequence[Generation],
    text_tokenizer: TextTokenizer,
    image_tokenizer: ImageTokenizer,
    encoder: Encoder | None,
) -> list[Drawn]:
    codes = [[document.image for document in one.documents if len(document.image)] for one in generations]
    together = [image for each in codes for image in each]
    pictures = iter(decode_with_holes(image_tokenizer, together) if together else ())
    images = [[next(pictures) for _ in each] for each in codes]
    texts = [[text_tokenizer.decode(document.text) for document in one.documents] for one in generations]
    scores: list[float | None] = [None] * len(generations)
    pairs = [i for i, one in enumerate(generations) if len(one.documents[-1].image) and texts[i][-1]]
    if encoder is not None and pairs:
        last = np.stack([images[i][-1] for i in pairs])[:, None]
        for i, score in zip(pairs, clip_scores(encoder, [texts[i][-1] for i in pairs], last)[:, 0], strict=True):
            scores[i] = float(score)
    answers = [[text_tokenizer.decode(ids).strip() for ids in one.answer] for one in generations]
    return [Drawn(images[i], texts[i], answers[i], one.logprob, scores[i]) for i, one in enumerate(generations)]
