"""The embedded data set as a source of instructions: every scene gives one example of a task."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator

from cm3leon_jax.data.scenes.builder import scenes_config
from cm3leon_jax.data.scenes.examples import ScenesConfig, example_id
from cm3leon_jax.data.scenes.tasks.example import Made, Situation
from cm3leon_jax.data.scenes.tasks.makers import VERSION, find_maker, make
from cm3leon_jax.data.scenes.world import Scene
from cm3leon_jax.data.sources.entries import HeldOut
from cm3leon_jax.data.sources.example import Source, SourceExample, require_split
from cm3leon_jax.data.sources.instructions import instruction, instruction_example
from cm3leon_jax.data.sources.scenes import ScenesSource, ScenesSplit
from cm3leon_jax.data.sources.split_shards import SplitShard, shards_of_splits
from cm3leon_jax.data.splits import INTERLEAVED, PAIRS, SPLITS, split_name
from cm3leon_jax.instructions.tasks import find_task, texts_to_learn
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint

_NAMES = ("task", "examples")


def scenes_source(where: str, held_out: HeldOut) -> Source:
    """ "DATA_DIR", or "DATA_DIR?task=NAME&examples=N": a task of `scenes.tasks.makers.MAKERS`, of at most the first N
    scenes of the split "train" and of all that are held out. Scenes come with their own splits. Raises `UserError`."""
    del held_out
    path, _, query = where.partition("?")
    given = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    unknown = sorted(given.keys() - set(_NAMES))
    if unknown or ("examples" in given and "task" not in given):
        wrong = f"{unknown[0]}=" if unknown else "examples= without task="
        raise UserError(f"scenes:{where} has {wrong}: behind ? stand task=NAME and, if you like, examples=NUMBER")
    if not given:
        return ScenesSource(where)
    examples = given.get("examples", "")
    if examples and not (examples.isdecimal() and int(examples)):
        raise UserError(f"scenes:{where} has examples={examples}: give a number of scenes from 1 up")
    return ScenesTaskSource(where, path, given["task"], int(examples) if examples else None)


class ScenesTaskSource:
    """Metadata is what `makers.make` gives, with the instruction. Tasks of two pictures are documents of the splits
    "train.interleaved" and so on, and their splits of pairs are empty."""

    def __init__(self, where: str, path: str, task: str, examples: int | None):
        find_maker(task)
        self.name = f"scenes:{where}"
        self._task, self._examples = task, examples
        self._scenes = ScenesSource(path)
        self._config = scenes_config(path)
        self._kind = INTERLEAVED if len(find_task(task).images) > 1 else PAIRS

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*SPLITS, *(split_name(split, self._kind) for split in SPLITS))))

    def split(self, name: str) -> ScenesTaskSplit:
        require_split(self, name)
        split = name.partition(".")[0]
        count = self._config.count(split) if name == split_name(split, self._kind) else 0
        if split == "train" and self._examples:
            count = min(count, self._examples)
        return ScenesTaskSplit(self._scenes.split(split), split, count, self._task, self._config)

    def shards(self, examples: int) -> list[SplitShard]:
        return shards_of_splits(self, examples)


class ScenesTaskSplit:
    """The first `count` scenes of a split, as examples of a task."""

    def __init__(self, scenes: ScenesSplit, split: str, count: int, task: str, config: ScenesConfig):
        self._scenes, self._split, self._count, self._task, self._config = scenes, split, count, task, config
        self._maker = find_maker(task)
        self.fingerprint = fingerprint(scenes.fingerprint, task, VERSION, count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> SourceExample:
        made = self._make(index)
        pictures = self._maker.pictures(made.metadata, self._config.resolution)
        id = f"{self._task}-{example_id(self._split, index)}"
        return instruction_example(id, instruction(self._task, **made.fields), pictures, made.metadata)

    def captions(self) -> Iterator[str]:
        for index in range(len(self)):
            yield from texts_to_learn(instruction(self._task, **self._make(index).fields), index)

    def _make(self, index: int) -> Made:
        if not 0 <= index < self._count:
            raise IndexError(index)
        scene, caption = Scene((), ""), ""
        if self._maker.needs_scene:
            record = self._scenes.record(index)
            scene, caption = Scene.from_dict(json.loads(record["scene"])), record["caption"].decode()
        id = example_id(self._split, index)
        return make(self._task, Situation(id, self._split, scene, caption, self._config))
