"""Examples of every task, made once for all tests."""

import functools

from cm3leon_jax.data.scenes.examples import SPLITS, ScenesConfig, scene_examples
from cm3leon_jax.data.scenes.tasks.example import Situation
from cm3leon_jax.data.scenes.tasks.makers import make
from cm3leon_jax.data.scenes.world import WorldConfig

COUNTS = {"train": 400, "validation": 60, "test": 60}
CONFIG = ScenesConfig(**COUNTS, world=WorldConfig(jitter=0.0, backgrounds=("white", "cream")))


@functools.cache
def situations(split="train"):
    assert split in SPLITS
    return [Situation(e.id, split, e.scene, e.caption.text, CONFIG) for e in scene_examples(split, CONFIG)]


@functools.cache
def made(task, split="train"):
    return [make(task, situation) for situation in situations(split)]
