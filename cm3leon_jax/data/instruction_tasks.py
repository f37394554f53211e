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
from typing import Any, ClassVar

import numpy as np
import seqio
import tensorflow as tf

from cm3leon_jax.data.instruction_preprocessors import MaskInstruction, TextEncoder, WordInstruction
from cm3leon_jax.data.joint_vocabulary import JointVocabulary
from cm3leon_jax.data.objective import ObjectiveConfig
from cm3leon_jax.data.prepared_source import PreparedSource
from cm3leon_jax.data.preprocessors import Example
from cm3leon_jax.data.settings import FinetuningConfig
from cm3leon_jax.data.shards import PreparedData
from cm3leon_jax.data.splits import KINDS
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

    def read(self, split: str, index: int) -> Example:
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
    weight: float | None  # that it was prepared with

    @property
    def vocabulary(self) -> Vocabulary:
        return self.source.vocabulary

    @property
    def examples(self) -> int:
        return self.source.num_input_examples("train")


def register_finetuning(
    name: str,
    datas: Sequence[PreparedData],
    config: FinetuningConfig,
    objective: ObjectiveConfig,
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
    preprocessors = [
        WordInstruction(text_tokenizer, vocabulary),
        MaskInstruction(vocabulary, objective, answers_alone=config.loss == "answer"),
    ]
    for task in found:
        seqio.TaskRegistry.add(
            f"{name}.{task.name}",
            source=task.source,
            preprocessors=preprocessors,
            output_features={"tokens": seqio.Feature(JointVocabulary(vocabulary, text_tokenizer), add_eos=False)},
        )
    rates = mixing_rates([task.examples for task in found], [task.weight for task in found], config)
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


def mixing_rates(examples: Sequence[int], weights: Sequence[float | None], config: FinetuningConfig) -> list[float]:
    """How many examples of each source are used while one of mean size is used once: all equally many, but an example
    at most `most_repeats` and at least `least_repeats` times. Weights, where sources have them, stand instead."""
    mean = sum(examples) / len(examples)
    return [
        weight * mean if weight else count * min(max(mean / count, config.least_repeats), config.most_repeats)
        for count, weight in zip(examples, weights, strict=True)
    ]


def find_sources(datas: Sequence[PreparedData]) -> list[SourceOfTask]:
    """The sources of instructions with examples to train on, each with a name of its own."""
    found = []
    for data in datas:
        if data.vocabulary != datas[0].vocabulary:
            raise UserError(
                f"{data.directory} and {datas[0].directory} were prepared for other vocabularies; prepare both with "
                "the same tokenizers and settings"
            )
        for number, described in enumerate(data.manifest["sources"]):
            for kind in KINDS:
                source = InstructionSource(data, kind, number)
                if "train" in source.splits and source.num_input_examples("train"):
                    said = json.loads(source.read("train", 0)["instruction"])
                    found.append(((said.get("task", GENERAL), described["name"].partition(":")[0]), source, described))
    if not found:
        raise UserError(f"{datas[0].directory} has no instructions to train on: prepare some (docs/data.md)")
    by_task = collections.Counter(task for (task, _), _, _ in found)
    names = [task if by_task[task] == 1 else f"{task}.{kind}" for (task, kind), _, _ in found]
    alike = collections.Counter(names)
    return [
        SourceOfTask(name if alike[name] == 1 else f"{name}.{number}", source, described["weight"])
        for number, (name, (_, source, described)) in enumerate(zip(names, found, strict=True))
    ]
