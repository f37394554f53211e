"""A model on all tasks: what it is asked, how it is scored, what is shown; with one that knows all, and one that knows
nothing."""

import numpy as np
import pytest

from cm3leon_jax.data.scenes.builder import prepare_scenes
from cm3leon_jax.data.scenes.examples import ScenesConfig
from cm3leon_jax.data.scenes.world import WorldConfig
from cm3leon_jax.data.sources import open_source
from cm3leon_jax.evaluation.gallery import read_gallery, write_gallery
from cm3leon_jax.evaluation.held_out import held_out_scenes
from cm3leon_jax.evaluation.report_tasks import tasks_section
from cm3leon_jax.evaluation.scene_tasks.evaluate import SceneTasksConfig, evaluate_scene_tasks, text_to_image_share
from cm3leon_jax.evaluation.scene_tasks.table import SCENE_TASKS
from cm3leon_jax.instructions.asking import unanswered
from cm3leon_jax.pages.pieces import Pictures
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.answers import Drawn
from cm3leon_jax.sampling.rules import SamplingConfig

CONFIG = SceneTasksConfig(examples=6, training_examples=30, shown=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "data"
    world = WorldConfig(jitter=0.0, backgrounds=("white",))
    prepare_scenes(folder, ScenesConfig(train=30, validation=6, test=6, world=world))
    return folder


@pytest.fixture(scope="module")
def sources(folder):
    return {name: open_source(f"scenes:{folder}?task={name}") for name in SCENE_TASKS}


class Oracle:
    """Answers with what is true, in the order in which it is asked; `wrong`: always the same instead."""

    def __init__(self, sources, wrong=False):
        self._sources, self._wrong, self._asked, self.rules = sources, wrong, {}, []

    def ask_task(self, task, fields, images, *, wording, max_tokens):
        unanswered(task, fields, len(images), wording)  # the fields are the task's
        number = self._asked[task] = self._asked.get(task, -1) + 1
        return task, number

    def generate(self, asked, sampling, *, samples=1, label=None):
        self.rules.append(sampling.rule)
        return [[self._answer(*one)] for one in asked]

    def _answer(self, name, number):
        task, source = SCENE_TASKS[name], self._sources[name]
        split = next(
            split for split in ("test", "test.interleaved") if split in source.splits and len(source.split(split))
        )
        metadata = source.split(split)[number].metadata
        (truth,) = task.truths([metadata], 64)
        if self._wrong:
            truth = np.full_like(truth, 255) if task.draws else "nothing"
        return Drawn([truth] if task.draws else [], [], [] if task.draws else [truth], 0.0, None)

    def text_to_image(self, texts, *, retrieved, n, sampling, label=None):
        assert retrieved == [[] for _ in texts]
        return np.full((len(texts), n, 64, 64, 3), 255, np.uint8)


def evaluated(sources, **options):
    oracle = Oracle(sources, **options)
    rule = SamplingConfig(rule="guided")
    found = evaluate_scene_tasks(
        oracle, lambda pictures: pictures, sources, split="test", resolution=64, sampling=rule, config=CONFIG
    )
    return *found, oracle


def test_who_knows_all_scores_everything(sources):
    scores, shown, oracle = evaluated(sources)
    for name, found in scores.items():
        headline = found["headline"]
        assert found["scores"][headline]["value"] == found["ceiling"][headline]["value"] == 1.0, name
        assert (found["baseline"][headline]["value"] or 0) < 1.0 and found["examples"] == 6
        hits, totals = found["counts"]["scores"]
        assert hits == totals and len(hits) == 6 and found["counts"]["baseline"] != found["counts"]["scores"]
        assert len(shown[name]) == 2 and shown[name][0]["hits"] == shown[name][0]["total"] > 0
    draws = [task.draws for task in SCENE_TASKS.values()]
    assert oracle.rules == ["guided" if each else "greedy" for each in draws]
    assert len(shown["edit"][0]["images"]) == 1 and "instruction" not in shown["edit"][0]["given"]
    assert shown["vqa"][0]["output"] == shown["vqa"][0]["truth"]


def test_who_knows_nothing_scores_nothing(sources):
    scores, _, _ = evaluated(sources, wrong=True)
    for name, found in scores.items():
        assert not found["scores"][found["headline"]]["value"], name


def test_a_split_that_is_not_there(sources):
    with pytest.raises(UserError, match=r"has no examples of a split 'val'; it has train, validation, test"):
        evaluate_scene_tasks(
            Oracle(sources), lambda pictures: pictures, sources, split="val", resolution=64, sampling=SamplingConfig(),
            config=CONFIG,
        )  # fmt: skip


def test_drawn_captions(folder):
    scenes = held_out_scenes(open_source(f"scenes:{folder}").split("test"), 6, 64)
    share = text_to_image_share(Oracle({}), scenes, SamplingConfig())
    assert share["examples"] == 6 and share["hits"] == 0 < share["total"]


def test_the_section_of_the_report(sources, tmp_path):
    scores, shown, _ = evaluated(sources, wrong=True)
    write_gallery(tmp_path, shown)
    share = scores["vqa"]["scores"]["answer"]
    html = tasks_section(
        {"tasks": scores, "text_to_image": {"before": share, "after": share}},
        read_gallery(tmp_path),
        Pictures(tmp_path),
    )
    assert html.count("<article") == 2 * len(SCENE_TASKS) and "no picture" not in html
    assert "after fine-tuning" in html and "edit: parts of the score" in html
    assert "cm3leon demo --sft" in tasks_section({}, {}, Pictures(tmp_path))
