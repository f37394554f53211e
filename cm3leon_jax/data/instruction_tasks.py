"""seqio tasks over prepared instructions, and the mixture of fine-tuning (CM3Leon §4).

After `register_finetuning(name, …)` any seqio program can use them, as those of `tasks.py`. Each source of each folder
is a task: `NAME.vqa`, `NAME.edit`, …; where several have the same templates, `NAME.vqa.vqa2` and `NAME.vqa.okvqa`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import seqio
import tensorflow as tf

from cm3leon_jax.data.instruction_preprocessors import TextEncoder, WordInstruction
from cm3leon_jax.data.joint_vocabulary import JointVocabulary
from cm3leon_jax.data.prepared_source import PreparedSource
from cm3leon_jax.data.preprocessors import Features
from cm3leon_jax.data.seqio_rows import add_task
from cm3leon_jax.data.settings import FinetuningConfig
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.data.splits import KINDS, SPLITS
from cm3leon_jax.data.tasks import unregister
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary

GENERAL = "parts"  # the name of a task whose instructions have no templates


class InstructionSource(PreparedSource):
    """The instructions of one source: their pictures' codes one behind the other, and what they say, as JSON."""

    features: ClassVar[dict[str, tuple[tf.DType, list]]] = {"image": (tf.int32, [None]), "instruction": (tf.string, [])}

    @property
    def vocabulary(self) -> Vocabulary:
        return self._data.vocabulary

    def read(self, split: str, index: int) -> Features:
        document = self.document(split, index)
        if KEY not in document.metadata:
            raise UserError(
                f"document {document.id} is no instruction: fine-tune on data of docs/data.md, Instructions"
            )
        return {
            "image": np.concatenate([each.image for each in document.documents]),
            "instruction": json.dumps(document.metadata[KEY]).encode(),
        }


@dataclasses.dataclass(frozen=True)
class SourceOfTask:
    """A source of prepared instructions, and the name of its task."""

    name: str
    source: InstructionSource
    origin: tuple[int, int]  # the number of its data, and its own there: documents of several kinds have one
    weight: float | None  # that it was prepared with
    split: str = "train"

    @property
    def vocabulary(self) -> Vocabulary:
        return self.source.vocabulary

    @property
    def examples(self) -> int:
        return self.source.num_input_examples(self.split)


def register_finetuning(
    name: str,
    datas: Sequence[PreparedData],
    config: FinetuningConfig,
    text_tokenizer: TextEncoder,
) -> str:
    """Registers a task for each source of instructions in `datas`, and their mixture `name`; returns its name.

    Raises `UserError` where data was made for another vocabulary, or holds no instructions. `tasks.unregister(name)`
    takes all out again.
    """
    if name in seqio.MixtureRegistry.names():
        raise UserError(f"a mixture {name!r} is registered already; choose another name")
    vocabulary = datas[0].vocabulary
    found = find_sources(datas)
    if not found:
        raise UserError(f"{datas[0].directory} has no instructions to train on: prepare some (docs/finetuning.md)")
    wording, joint = WordInstruction(text_tokenizer, vocabulary), JointVocabulary(vocabulary, text_tokenizer)
    for task in found:
        add_task(f"{name}.{task.name}", task.source, wording, joint)
    rates = task_rates(found, config)
    seqio.MixtureRegistry.add(name, [(f"{name}.{task.name}", rate) for task, rate in zip(found, rates, strict=True)])
    return name


@contextlib.contextmanager
def finetuning_mixture(name: str, *arguments: Any) -> Iterator[str]:
    """`register_finetuning` for the time of a block; yields the mixture's name."""
    register_finetuning(name, *arguments)
    try:
        yield name
    finally:
        unregister(name)


def task_rates(tasks: Sequence[SourceOfTask], config: FinetuningConfig) -> list[float]:
    """The rate of each task. Those of one source, with documents of different kinds, share its rate by their sizes."""
    examples: dict[tuple[int, int], int] = collections.defaultdict(int)
    for task in tasks:
        examples[task.origin] += task.examples
    weights = {task.origin: task.weight for task in tasks}
    rates = mixing_rates(list(examples.values()), [weights[origin] for origin in examples], config)
    of_origin = dict(zip(examples, rates, strict=True))
    return [of_origin[task.origin] * task.examples / examples[task.origin] for task in tasks]


def mixing_rates(examples: Sequence[int], weights: Sequence[float | None], config: FinetuningConfig) -> list[float]:
    """How many examples of each source are used while one of mean size is used once: all equally many, but an example
    at most `most_repeats` and at least `least_repeats` times. Weights, where sources have them, stand instead."""
    mean = sum(examples) / len(examples)
    return [
        weight * mean if weight else count * min(max(mean / count, config.least_repeats), config.most_repeats)
        for count, weight in zip(examples, weights, strict=True)
    ]


def find_sources(datas: Sequence[PreparedData], split: str = "train") -> list[SourceOfTask]:
    """The sources of instructions with examples in a split, in order. Those that are trained on have a name each; one
    that is only held out is called as if it were alone, so its task's name may be that of another."""
    found: list[_Found] = []
    for place, data in enumerate(datas):
        if data.vocabulary != datas[0].vocabulary:
            raise UserError(
                f"{data.directory} and {datas[0].directory} were prepared for other vocabularies; prepare both with "
                "the same tokenizers and settings"
            )
        for number, described in enumerate(data.manifest["sources"]):
            for kind in KINDS:
                source = InstructionSource(data, kind, number)
                splits = [name for name in SPLITS if name in source.splits and source.num_input_examples(name)]
                if splits:
                    task = json.loads(source.read(splits[0], 0)["instruction"]).get("task", GENERAL)
                    kind_of_source = described["name"].partition(":")[0]
                    found.append(_Found(task, kind_of_source, source, (place, number), described["weight"], splits))
    trained = [each for each in found if "train" in each.splits]
    held_out = [each for each in found if "train" not in each.splits]
    names = dict(zip(map(id, trained), _names(trained), strict=True)) | {id(each): each.task for each in held_out}
    return [
        SourceOfTask(names[id(each)], each.source, each.origin, each.weight, split)
        for each in found
        if split in each.splits
    ]


class _Found(NamedTuple):
    task: str
    kind: str  # of source
    source: InstructionSource
    origin: tuple[int, int]
    weight: float | None
    splits: list[str]  # in which it has examples


def _names(found: Sequence[_Found]) -> list[str]:
    """As short as tells them apart."""
    by_task = collections.Counter(each.task for each in found)
    names = [each.task if by_task[each.task] == 1 else f"{each.task}.{each.kind}" for each in found]
    alike = collections.Counter(names)
    return [name if alike[name] == 1 else f"{name}.{number}" for number, name in enumerate(names)]
