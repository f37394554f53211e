"""Which scenes and captions the splits hold: endless streams of examples, disjoint between splits by construction.

Every scene (`Scene.key`) and every set of stated facts belongs to exactly one split, by its hash. A split holds the
examples whose scene and whose stated facts are both its own, so neither a held-out scene nor a held-out description,
in whatever wording, is seen in training, for any counts and seeds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from cm3leon_jax.data.scenes.captions import Caption, CaptionConfig, write_caption
from cm3leon_jax.data.scenes.facts import Fact, fact_to_dict
from cm3leon_jax.data.scenes.world import Scene, WorldConfig, sample_scene
from cm3leon_jax.data.splits import hashed_split
from cm3leon_jax.runtime.errors import UserError

SPLITS = ("train", "validation", "test")
HELD_OUT_SHARE = 0.1  # of all scenes, and of all descriptions, for validation and for test each
MAX_TRIES = 50_000  # draws for one example; about 100 are expected for a held-out one


@dataclasses.dataclass(frozen=True)
class ScenesConfig:
    """The data set. The defaults are the demo's."""

    resolution: int = 64  # pixels, both sides
    train: int = 16_000  # examples
    validation: int = 500  # examples
    test: int = 500  # examples
    seed: int = 0
    world: WorldConfig = dataclasses.field(default_factory=WorldConfig)
    captions: CaptionConfig = dataclasses.field(default_factory=CaptionConfig)

    def __post_init__(self) -> None:
        if self.resolution < 16:
            raise UserError(f"resolution = {self.resolution}: give at least 16 pixels")
        for split in SPLITS:
            if self.count(split) < 1:
                raise UserError(f"{split} = {self.count(split)}: every split needs at least one example")

    def count(self, split: str) -> int:
        return getattr(self, split)

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ScenesConfig:
        """The exact inverse of `to_dict`."""
        world: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in value["world"].items()
        }
        return cls(**{**value, "world": WorldConfig(**world), "captions": CaptionConfig(**value["captions"])})


@dataclasses.dataclass(frozen=True)
class SceneExample:
    id: str  # unique in the data set
    scene: Scene
    caption: Caption


def split_of_scene(scene: Scene) -> str:
    return hashed_split(scene.key(), HELD_OUT_SHARE)


def split_of_facts(facts: Iterable[Fact]) -> str:
    return hashed_split(sorted(json.dumps(fact_to_dict(fact)) for fact in facts), HELD_OUT_SHARE)


def split_of_word(word: str) -> str:
    return hashed_split(word, HELD_OUT_SHARE)


def scene_examples(split: str, config: ScenesConfig) -> Iterator[SceneExample]:
    """The examples of one split in order, a pure function of (split, config); more examples continue the same stream.

    The captions of a held-out split are all different. Raises `UserError` when the world has too few scenes for it.
    """
    rng = np.random.default_rng([config.seed, SPLITS.index(split)])
    seen: set[str] = set()
    for index in range(config.count(split)):
        scene, caption = _draw(rng, split, config, seen)
        if split != "train":
            seen.add(caption.text)
        yield SceneExample(example_id(split, index), scene, caption)


def example_id(split: str, index: int) -> str:
    return f"{split}-{index:08d}"


def _draw(rng: np.random.Generator, split: str, config: ScenesConfig, seen: set[str]) -> tuple[Scene, Caption]:
    for _ in range(MAX_TRIES):
        scene = sample_scene(rng, config.world)
        # One caption a scene, and both or neither: so that the rule does not favour scenes with much to say.
        if split_of_scene(scene) == split:
            caption = write_caption(rng, scene, config.captions)
            if split_of_facts(caption.facts) == split and caption.text not in seen:
                return scene, caption
    raise UserError(f"{config.count(split)} {split} scenes are more than this world has; ask for fewer")
