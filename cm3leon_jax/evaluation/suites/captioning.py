"""The suite `captioning`: COCO, Flickr30k and Image-Paragraph, each with all references of a picture (CM3Leon §4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cm3leon_jax.evaluation.metrics.captions import caption_scores
from cm3leon_jax.evaluation.metrics.meteor_data import MeteorData, read_meteor_data
from cm3leon_jax.evaluation.suites.asking import ask
from cm3leon_jax.evaluation.suites.data import Described, by_picture, drawn
from cm3leon_jax.evaluation.suites.result import Count, Figure, Shown, SuiteResult, figures_of
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.instructions.instruction import KEY


class _Kind(NamedTuple):
    task: str  # in whose words the model is asked
    tokens: str  # the field of SuitesConfig that says how long a text may be


DATA_SETS = {
    "coco_captions": _Kind("caption", "caption_tokens"),
    "flickr30k": _Kind("caption", "caption_tokens"),
    "image_paragraph": _Kind("paragraph", "paragraph_tokens"),
}

METRICS = ("CIDEr-D", "BLEU-4", "ROUGE-L", "METEOR")


def captioning(work: Work) -> SuiteResult:
    """Each of the data sets that are named. METEOR is measured where its data are named, too."""
    config, meteor = work.config, None
    if config.meteor_jar or config.meteor_paraphrases:
        meteor = read_meteor_data(config.meteor_jar, config.meteor_paraphrases)  # what is missing is told before asking
    parts = [_captions(work, name, kind, meteor) for name, kind in DATA_SETS.items() if getattr(config, name)]
    return SuiteResult(
        [figure for part in parts for figure in part.figures],
        {name: count for part in parts for name, count in part.counts.items()},
        [shown for part in parts for shown in part.shown],
    )


def references_of(examples: Sequence[Described]) -> list[str]:
    """All captions of one picture, from the examples about it."""
    found: list[str] = []
    for example in examples:
        said = example.metadata.get(KEY, {}).get("fields", {}).get("caption", example.caption)
        found += [said] if isinstance(said, str) else said
    return found


def _captions(work: Work, name: str, kind: _Kind, meteor: MeteorData | None) -> SuiteResult:
    config, data = work.config, work.open(name)
    pictures = drawn(by_picture(data.examples), config.examples, config.seed)
    rows = [{"id": each[0].id, "task": kind.task, "image": str(each[0].place)} for each in pictures]

    def read_image(place: str) -> np.ndarray:
        return data.image(int(place), work.models.generator.image_tokenizer.resolution)

    answers = ask(work, name, rows, read_image, sampling=work.text_sampling, max_tokens=getattr(config, kind.tokens))
    texts = answers.best_texts()
    references = [references_of(pictures[place]) for place in answers.places]
    every = caption_scores(texts, references, meteor_data=meteor)
    scores = {metric: every[metric] for metric in METRICS if metric in every}
    figures: list[Figure] = figures_of(name, scores, seed=config.seed, percent=True)
    shown = [
        Shown(
            text or "(nothing)",
            [("", read_image(rows[place]["image"]))],
            [("CIDEr-D", f"{100 * value:.1f}"), *(("people", reference) for reference in of_it)],
        )
        for place, text, of_it, value in list(
            zip(answers.places, texts, references, scores["CIDEr-D"].examples, strict=True)
        )[: config.shown]
    ]
    count = Count(data.spec, len(texts), dict(data.left_out), answers.unanswered)
    return SuiteResult(figures, {name: count}, shown)
