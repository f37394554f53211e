"""The suite `text_to_image`: pictures drawn from captions, against real ones (CM3Leon §3.2, its table 1).

One caption of each picture is asked, with each number of retrieved documents; of several samples CLIP chooses one.
"""

from __future__ import annotations

import itertools
import pathlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.evaluation.metrics.score import mean_score
from cm3leon_jax.evaluation.suites.asking import Answers, ask
from cm3leon_jax.evaluation.suites.comparing import Comparing, read_pictures
from cm3leon_jax.evaluation.suites.data import UNREADABLE, DataSet, Described, Readable, by_picture, drawn
from cm3leon_jax.evaluation.suites.result import Count, Figure, Shown, SuiteResult
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.runtime.errors import UserError

NAME = "text_to_image"


def text_to_image(work: Work) -> SuiteResult:
    """FID (or the Fréchet distance of another network), CLIP-FD and CMMD by the retriever, and the pictures' CLIP
    similarity to their captions, for each number of documents in `SuitesConfig.retrieved`."""
    config, data = work.config, work.open(NAME)
    _check_documents(work)
    captions = one_caption_each(data.examples, config.examples or config.captions, config.seed)
    comparing = Comparing(work, data, captions)  # what is wrong with weights or statistics is told before drawing
    rows = [{"id": each.id, "prompt": each.caption} for each in captions]
    figures: list[Figure] = []
    answered: dict[int, Answers] = {}
    for count in config.retrieved:
        answers = ask(
            work,
            f"drawn_{count}",
            rows,
            _no_image,
            sampling=work.sampling,
            samples=config.samples,
            retrieved=count,
        )
        answered[count] = answers
        files = [_file(work, count, row) for row in answers.rows]
        figures += [Figure.of_distance(documents(count), found) for found in comparing.distances(files)]
        scores = [row["answers"][0].get("clip_score") for row in answers.rows]
        if None not in scores:
            of_captions = mean_score(scores)
            figures.append(Figure.of_score(documents(count), "CLIP similarity", of_captions, seed=config.seed))
    left_out = data.left_out + Counter({UNREADABLE: comparing.unreadable})
    reasons = {f"{each}, {documents(n)}": m for n, a in answered.items() for each, m in a.unanswered.items()}
    fewest = min(len(answers.rows) for answers in answered.values())
    return SuiteResult(
        figures,
        {NAME: Count(data.spec, fewest, dict(left_out), reasons)},
        _shown(work, data, captions, answered),
        [*comparing.notes, _chosen(work)],
    )


def one_caption_each(examples: Sequence[Described], count: int, seed: int) -> list[Described]:
    """One caption, drawn by `seed`, of each of `count` pictures (0: of all), in their order."""
    pictures = drawn(by_picture(examples), count, seed)
    rng = np.random.default_rng([seed, 1])
    return [each[int(rng.random() * len(each))] for each in pictures]


def documents(count: int) -> str:
    return f"{count} retrieved document{'' if count == 1 else 's'}"


def _check_documents(work: Work) -> None:
    if max(work.config.retrieved) and work.models.generator.library is None:
        raise UserError(
            "documents are retrieved with --prepared DATA and --retriever MODEL; name both, or set "
            "SuitesConfig.retrieved to (0,)"
        )


def _chosen(work: Work) -> str:
    if work.config.samples == 1:
        return "one picture of each caption"
    by = "CLIP" if work.models.retriever is not None else "its log-probability (without --retriever)"
    return f"of {work.config.samples} pictures of each caption one, chosen by {by}"


def _no_image(name: str) -> np.ndarray:
    raise UserError(f"a caption is asked without a picture, not with {name}")


def _file(work: Work, count: int, row: dict) -> pathlib.Path:
    return work.directory / f"drawn_{count}" / row["answers"][0]["images"][0]


def _shown(work: Work, data: DataSet, captions: Sequence[Described], answered: dict[int, Answers]) -> list[Shown]:
    by_count = {count: dict(zip(a.places, a.rows, strict=True)) for count, a in answered.items()}
    everywhere = {
        caption.place: number
        for number, caption in enumerate(captions)
        if all(number in rows for rows in by_count.values())
    }
    some = [captions[number] for number in everywhere.values()]
    readable = Readable(data, some, work.models.generator.image_tokenizer.resolution)
    shown = []
    for caption, real in itertools.islice(readable.pictures(), work.config.shown):
        files = [_file(work, count, rows[everywhere[caption.place]]) for count, rows in by_count.items()]
        pictures = list(zip(map(documents, by_count), read_pictures(files), strict=True))
        shown.append(Shown(caption.caption, [*pictures, ("the real one", real)], []))
    return shown
