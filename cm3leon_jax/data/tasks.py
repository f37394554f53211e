"""seqio tasks over prepared data: pairs with retrieved documents, plain pairs, text, interleaved documents, a mixture.

After `register_pretraining(directory, name, …)` any seqio program can use them. They end at examples of any length, in
which nothing is hidden; a feature converter packs them into rows and hides spans there:

    converter = RowConverter(StreamConfig(), Objective(vocabulary))
    seqio.get_dataset(name, {"tokens": 4096}, converter, dataset_split="train", shuffle=True, seed=0)

Our own training stream takes the same tasks out of the registry, reads them by random access (`random_access`) and
packs them by the same functions. Retrieved documents, their order and masks are drawn anew in each epoch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import seqio

from cm3leon_jax.data.inspection.rendering import TextDecoder
from cm3leon_jax.data.joint_vocabulary import JointVocabulary
from cm3leon_jax.data.prepared_source import PreparedSource
from cm3leon_jax.data.preprocessors import AssembleDocuments
from cm3leon_jax.data.seqio_rows import add_task
from cm3leon_jax.data.settings import PretrainingConfig
from cm3leon_jax.data.shards import BANK_SPLIT, PreparedData
from cm3leon_jax.data.splits import INTERLEAVED, PAIRS, TEXT_ONLY, split_name
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path

RETRIEVAL_AUGMENTED = "retrieval_augmented_pairs"
PLAIN = "plain_pairs"
# The kind of documents that each task is made of.
_KINDS = {RETRIEVAL_AUGMENTED: PAIRS, PLAIN: PAIRS, "text_only": TEXT_ONLY, "interleaved": INTERLEAVED}


def register_pretraining(
    directory: Path,
    name: str,
    config: PretrainingConfig,
    text_tokenizer: TextDecoder | None = None,
) -> str:
    """Registers the tasks over a folder that `cm3leon prepare` wrote, and their mixture `NAME`; returns its name.

    They are `NAME.retrieval_augmented_pairs` and `NAME.plain_pairs`, and `NAME.text_only` and `NAME.interleaved` where
    there are such documents; of several sources with weights, each has tasks of its own (`NAME.plain_pairs.0`, …).
    With a text tokenizer, the feature's vocabulary decodes text as text. seqio's registries are process-global:
    `unregister(name)` takes all out again.
    """
    data = PreparedData(directory)
    if name in seqio.MixtureRegistry.names():
        raise UserError(f"a mixture {name!r} is registered already; choose another name")
    rates = {
        RETRIEVAL_AUGMENTED: config.retrieval_augmented_rate,
        PLAIN: config.plain_rate,
        "text_only": config.text_only_rate,
        "interleaved": config.interleaved_rate,
    }
    tasks = []
    for task, rate in rates.items():
        sources = _sources(data, _KINDS[task])
        if rate and not sources:
            raise UserError(f"{directory} has no documents for the task {task}: set its rate to 0")
        retrieved = (config.retrieved_min, config.retrieved_max) if task == RETRIEVAL_AUGMENTED else (0, 0)
        for suffix, source, weight in sources:
            _add_task(f"{name}.{task}{suffix}", source, data, retrieved, text_tokenizer)
            if rate:
                tasks.append((f"{name}.{task}{suffix}", rate * weight))
    seqio.MixtureRegistry.add(name, tasks)
    return name


def _sources(data: PreparedData, kind: str) -> list[tuple[str, PreparedSource, float]]:
    """The documents of a kind, as one source, or by the sources that have weights: (suffix, source, share)."""
    train = split_name(BANK_SPLIT, kind)
    if train not in data.splits or not len(data.split(train)):
        return []
    weights = [(number, weight) for number, (each, weight) in enumerate(data.ranges(train)) if each and weight]
    if not weights:
        return [("", PreparedSource(data, kind), 1.0)]
    total = sum(weight for _, weight in weights)
    return [(f".{number}", PreparedSource(data, kind, number), weight / total) for number, weight in weights]


def _add_task(
    name: str,
    source: PreparedSource,
    data: PreparedData,
    retrieved: tuple[int, int],
    text_tokenizer: TextDecoder | None,
) -> None:
    assembling = AssembleDocuments(data.split(BANK_SPLIT), data.vocabulary, *retrieved)
    add_task(name, source, assembling, JointVocabulary(data.vocabulary, text_tokenizer))


@contextlib.contextmanager
def pretraining_mixture(*arguments: Any, **options: Any) -> Iterator[str]:
    """`register_pretraining` for the time of a block; yields the mixture's name."""
    name = register_pretraining(*arguments, **options)
    try:
        yield name
    finally:
        unregister(name)


def unregister(name: str) -> None:
    """Takes a mixture and its tasks out of seqio's registries; nothing happens where it is not there."""
    seqio.MixtureRegistry.remove(name)
    for task in [task for task in seqio.TaskRegistry.names() if task.startswith(f"{name}.")]:
        seqio.TaskRegistry.remove(task)
