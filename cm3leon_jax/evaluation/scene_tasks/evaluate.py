"""A fine-tuned model on all tasks of the scenes: asked, scored exactly, between a baseline and a ceiling.

What is returned is JSON-able, and what the report shows: inputs, outputs and truths of a few fixed examples, whose
pictures are arrays until `gallery.write_gallery` saves them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from cm3leon_jax.data.scenes.tasks.example import Metadata
from cm3leon_jax.data.sources.example import Source
from cm3leon_jax.data.splits import KINDS, split_name
from cm3leon_jax.evaluation.held_out import HeldOutScene
from cm3leon_jax.evaluation.protocols import Generator
from cm3leon_jax.evaluation.scene_scores import check_images, fact_shares
from cm3leon_jax.evaluation.scene_tasks.bounds import RoundTrip, baseline, ceiling
from cm3leon_jax.evaluation.scene_tasks.counts import Counts, shares
from cm3leon_jax.evaluation.scene_tasks.table import SCENE_TASKS, Output, SceneTask
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.instructions.tasks import TASKS
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.answers import Drawn
from cm3leon_jax.sampling.prompts import Prompt
from cm3leon_jax.sampling.rules import SamplingConfig

# The wordings that say what is asked for: to describe; to explain.
_WORDINGS = {"caption": 1, "science": 1}


@dataclasses.dataclass(frozen=True)
class SceneTasksConfig:
    """What is measured, and how much of it is shown."""

    examples: int = 100  # held-out examples of each task, the first ones
    training_examples: int = 1000  # in which the baseline looks for the most frequent answers
    max_tokens: int = 64  # of an answer
    shown: int = 4  # examples of each task


class Answerer(Generator, Protocol):
    """A decoder with its tokenizers: `sampling.pipeline.Generator`."""

    def ask_task(
        self,
        task: str,
        fields: Mapping[str, str],
        images: Sequence[np.ndarray],
        *,
        wording: int | None,
        max_tokens: int,
    ) -> Prompt: ...

    def generate(
        self, asked: Sequence[Prompt], sampling: SamplingConfig, *, samples: int = 1, label: str | None = None
    ) -> list[list[Drawn]]: ...


def evaluate_scene_tasks(
    answerer: Answerer,
    round_trip: RoundTrip,
    sources: Mapping[str, Source],
    *,
    split: str,
    resolution: int,
    sampling: SamplingConfig,
    config: SceneTasksConfig,
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Scores of each task of `sources` (a source of `scenes:DATA_DIR?task=NAME` by its name) -> (scores, shown).

    Pictures are drawn by `sampling`, texts greedily. Each task has its "scores", the "headline" among them, "ceiling"
    and "baseline", all as dicts of `intervals.Share`; and of the headline and its baseline the "counts", hits and
    totals of each example.
    """
    scores: dict[str, Any] = {}
    shown: dict[str, list[dict[str, Any]]] = {}
    for name, source in sources.items():
        task = SCENE_TASKS[name]
        examples = _metadata(source, split, config.examples)
        outputs = _answers(answerer, task, examples, resolution, sampling, config)
        training = _metadata(source, "train", config.training_examples) if task.guess else []
        found = task.score(examples, outputs)
        without = baseline(task, training, examples, resolution)
        scores[name] = {
            "examples": len(examples),
            "headline": task.headline,
            "scores": shares(found),
            "ceiling": shares(ceiling(task, examples, resolution, round_trip)),
            "baseline": shares(without),
            "counts": {"scores": _lists(found[task.headline]), "baseline": _lists(without[task.headline])},
        }
        headline = found[task.headline]
        shown[name] = [
            _shown(task, examples[place], outputs[place], resolution)
            | {"hits": int(headline.hits[place]), "total": int(headline.totals[place])}
            for place in range(min(config.shown, len(examples)))
        ]
    return scores, shown


def text_to_image_share(answerer: Answerer, scenes: Sequence[HeldOutScene], sampling: SamplingConfig) -> dict[str, Any]:
    """Of the facts that held-out captions state, those that are true of pictures drawn without retrieved documents: the
    dict of an `intervals.Share`, and the "counts" of each caption."""
    texts, stated = [scene.caption for scene in scenes], [scene.facts for scene in scenes]
    pictures = answerer.text_to_image(
        texts, retrieved=[[] for _ in texts], n=1, sampling=sampling, label="draw: captions"
    )[:, 0]
    verdicts = check_images(stated, pictures)
    counts = Counts(np.array([sum(each) for each in verdicts]), np.array([len(each) for each in verdicts]))
    return fact_shares(stated, verdicts)["overall"] | {"counts": _lists(counts)}


def _lists(counts: Counts) -> list[list[int]]:
    return [counts.hits.tolist(), counts.totals.tolist()]


def _metadata(source: Source, split: str, count: int) -> list[Metadata]:
    """Of the first `count` examples of a split, whichever kind of documents they are. `UserError`: there are none."""
    names = (split_name(split, kind) for kind in KINDS)
    name = next((name for name in names if name in source.splits and len(source.split(name))), None)
    if name is None:
        raise UserError(f"{source.name} has no examples of a split {split!r}; it has {', '.join(source.splits)}")
    examples = source.split(name)
    return [examples[index].metadata for index in range(min(count, len(examples)))]


def _answers(
    answerer: Answerer,
    task: SceneTask,
    examples: Sequence[Metadata],
    resolution: int,
    sampling: SamplingConfig,
    config: SceneTasksConfig,
) -> list[Output]:
    asked = [
        answerer.ask_task(
            task.name,
            given_texts(task, metadata),
            given_images(task, metadata, resolution),
            wording=_WORDINGS.get(task.name),
            max_tokens=config.max_tokens,
        )
        for metadata in examples
    ]
    by_rule = sampling if task.draws else dataclasses.replace(sampling, rule="greedy")
    drawn = [one for (one,) in answerer.generate(asked, by_rule, label=f"task: {task.name}")]
    return [one.images[-1] for one in drawn] if task.draws else [" ".join(one.answer) for one in drawn]


def given_texts(task: SceneTask, metadata: Metadata) -> dict[str, str]:
    """The fields of an example that are no answers; of several texts the first."""
    fields = metadata[KEY]["fields"]
    given = {name: text for name, text in fields.items() if name not in TASKS[task.name].answers}
    return {name: text if isinstance(text, str) else text[0] for name, text in given.items()}


def given_images(task: SceneTask, metadata: Metadata, resolution: int) -> list[np.ndarray]:
    """The pictures of an example that are no answers, uint8 [R, R, 3]."""
    pictures = task.maker.pictures(metadata, resolution)
    return pictures[:-1] if task.draws else pictures


def _shown(task: SceneTask, metadata: Metadata, output: Output, resolution: int) -> dict[str, Any]:
    (truth,) = task.truths([metadata], resolution)
    return {
        "given": list(given_texts(task, metadata).values()),
        "images": given_images(task, metadata, resolution),
        "is_picture": task.draws,
        "output": output,
        "truth": truth,
    }
