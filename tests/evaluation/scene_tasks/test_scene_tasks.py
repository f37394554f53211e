"""True outputs score everything, wrong ones do not; ceilings and baselines lie where they must."""

import functools

import numpy as np
import pytest
import scipy.ndimage
from scene_task_examples import made

from cm3leon_jax.data.scenes.tasks.makers import MAKERS
from cm3leon_jax.data.sources.instructions import instruction
from cm3leon_jax.evaluation.scene_tasks.bounds import baseline, ceiling
from cm3leon_jax.evaluation.scene_tasks.counts import shares
from cm3leon_jax.evaluation.scene_tasks.table import SCENE_TASKS
from cm3leon_jax.instructions.instruction import KEY

TASK = pytest.mark.parametrize("name", SCENE_TASKS)
COUNT = 24


@functools.cache
def examples(name, split="test", count=COUNT):
    """Metadata as the source gives it."""
    return [{**one.metadata, KEY: instruction(name, **one.fields)} for one in made(name, split)[:count]]


def values(scores):
    return {name: one["value"] for name, one in shares(scores).items() if one["total"]}


def test_the_table_has_all_tasks_with_their_fields():
    assert SCENE_TASKS.keys() == MAKERS.keys()
    assert SCENE_TASKS["vqa"].fields == ("question", "answer", "image")
    assert [name for name, task in SCENE_TASKS.items() if task.draws] == [
        "edit", "ground", "segmentation", "canny", "text_rendering",
    ]  # fmt: skip


@TASK
def test_true_outputs_score_everything_and_those_of_other_examples_do_not(name):
    task = SCENE_TASKS[name]
    truths = task.truths(examples(name), 64)
    scores = task.score(examples(name), truths)
    assert set(values(scores).values()) == {1.0}
    assert all(len(counts.hits) == len(counts.totals) == COUNT for counts in scores.values())
    assert values(task.score(examples(name), truths[::-1]))[task.headline] < 0.6


@TASK
def test_nothing_scores_nothing(name):
    task = SCENE_TASKS[name]
    nothing = np.full((64, 64, 3), 250, np.uint8) if task.draws else ""
    scores = values(task.score(examples(name), [nothing] * COUNT))
    if name == "edit":  # what is to be removed is not there
        assert scores["both"] < 0.2 and scores["kept"] < 0.3
    else:
        assert set(scores.values()) == {0.0}


@TASK
def test_a_perfect_tokenizer_gives_the_ceiling_one_and_a_bad_one_less(name):
    task = SCENE_TASKS[name]
    assert set(values(ceiling(task, examples(name), 64, lambda pictures: pictures)).values()) == {1.0}

    def ruined(pictures):
        return np.stack([scipy.ndimage.uniform_filter(one, (16, 16, 0)) for one in pictures])

    assert values(ceiling(task, examples(name), 64, ruined))[task.headline] < 0.7


@TASK
def test_a_guess_scores_less_than_the_truth(name):
    task = SCENE_TASKS[name]
    scores = values(baseline(task, examples(name, "train", 400), examples(name), 64))
    assert 0 <= scores[task.headline] < 0.7
    if name == "edit":
        assert scores["both"] == scores["changed"] == 0 and scores["kept"] == 1


@pytest.mark.parametrize("name", ["vqa", "science"])
def test_no_constant_answer_beats_the_baseline_on_the_examples_that_it_was_counted_on(name):
    task, training = SCENE_TASKS[name], examples(name, "train", 400)
    best = values(baseline(task, training, training, 64))
    best.pop("words", None)  # an option is guessed by its letter alone
    for constant in {one["answer"] for one in training}:
        scores = values(task.score(training, [constant] * len(training)))
        assert all(scores[kind] <= best[kind] for kind in best)


@pytest.mark.parametrize("name", ["ground", "segmentation", "text_rendering"])
def test_scores_do_not_depend_on_the_resolution_of_the_pictures(name):
    task = SCENE_TASKS[name]
    assert values(task.score(examples(name), task.truths(examples(name), 128)))[task.headline] == 1.0
