"""The suite `scene_tasks`: a fine-tuned decoder on all tasks of the scenes, and what it kept of drawing captions."""

from __future__ import annotations

import dataclasses
from typing import Any

from cm3leon_jax.data.sources import open_source
from cm3leon_jax.evaluation.gallery import write_gallery
from cm3leon_jax.evaluation.held_out import HeldOutScene, held_out_scenes
from cm3leon_jax.evaluation.scene_tasks import GALLERY, SCORES_FILE
from cm3leon_jax.evaluation.scene_tasks.evaluate import (
    Answerer,
    SceneTasksConfig,
    evaluate_scene_tasks,
    text_to_image_share,
)
from cm3leon_jax.evaluation.scene_tasks.table import SCENE_TASKS
from cm3leon_jax.evaluation.suites.result import Count, Figure, SuiteResult
from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import write_json

_CAPTIONS = 200  # held-out captions that are drawn before and after fine-tuning
_NOTE = (
    "baseline: what needs no model (the most frequent answer to each kind of question, the picture left unchanged, the "
    "picture or text of another example); ceiling: what the truth scores behind the image tokenizer"
)


def scene_tasks(work: Work) -> SuiteResult:
    """Exact scores of each task, on scenes that the command's `source` names. Raises `UserError`."""
    spec = work.models.options["source"]
    if not spec.startswith("scenes:") or "?" in spec:
        raise UserError(f"suite scene_tasks needs --source scenes:DATA_DIR, as `cm3leon scenes` made them, not {spec}")
    generator, tokenizer = work.models.generator, work.models.generator.image_tokenizer
    config = SceneTasksConfig()
    config = dataclasses.replace(config, examples=work.config.examples or config.examples)
    tasks, shown = evaluate_scene_tasks(
        generator,
        lambda pictures: tokenizer.decode(tokenizer.encode(pictures)),
        {name: open_source(f"{spec}?task={name}") for name in SCENE_TASKS},
        split=work.split,
        resolution=tokenizer.resolution,
        sampling=work.sampling,
        config=config,
    )
    captions = open_source(spec).split(work.split)
    scenes = held_out_scenes(captions, min(_CAPTIONS, len(captions)), tokenizer.resolution)
    kept = _drawn_captions(work, generator, scenes)
    if hosts.is_first():
        write_gallery(work.directory / GALLERY, shown)
        write_json(work.directory / SCORES_FILE, {"tasks": tasks, "text_to_image": kept})
    figures = [
        _figure(name, label if kind == "scores" else f"{label}, {kind}", share)
        for name, task in tasks.items()
        for label in task["scores"]
        for kind in ("scores", *(("baseline", "ceiling") if label == task["headline"] else ()))
        if (share := task[kind].get(label))
    ]
    figures += [
        _figure("captions", f"facts of drawn captions, {when} fine-tuning", share) for when, share in kept.items()
    ]
    counts = {name: Count(f"{spec}?task={name}", task["examples"], {}, {}) for name, task in tasks.items()}
    return SuiteResult(figures, counts, notes=[_NOTE])


def _drawn_captions(work: Work, generator: Answerer, scenes: list[HeldOutScene]) -> dict[str, dict[str, Any]]:
    """By when: with the decoder before fine-tuning, where `SuitesConfig.before` names it, and with this one."""
    drawn = {}
    if work.config.before:
        before = work.models.with_options(decoder=work.config.before, prepared="", retriever="").generator
        drawn["before"] = text_to_image_share(before, scenes, work.sampling)
    return drawn | {"after": text_to_image_share(generator, scenes, work.sampling)}


def _figure(task: str, name: str, share: dict[str, Any]) -> Figure:
    return Figure(task, name, share["value"], share["low"], share["high"], share["examples"], percent=True)
