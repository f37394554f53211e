"""seqio tasks over prepared data: pairs with retrieved documents, plain pairs, text, interleaved documents, a mixture.

After `register_pretraining(directory, name, …)` any seqio program can use them:

    seqio.get_mixture_or_task(name).get_dataset(sequence_length={"tokens": 4096}, split="train", seed=0)

gives {"tokens": int32 [length]}. Our own training stream takes the same tasks out of the registry and reads them by
random access (`RandomAccess`), which seqio's datasets cannot do. Masks, retrieved documents and their order are drawn
anew in each epoch.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import seqio
import tensorflow as tf

from cm3leon_jax.data.inspection.rendering import TextDecoder, render
from cm3leon_jax.data.objective import ObjectiveConfig
from cm3leon_jax.data.preprocessors import (
    AssembleDocuments,
    CausalMasking,
    Example,
    Preprocessor,
    joined_document,
    neighbours_of,
)
from cm3leon_jax.data.records import PreparedDocument
from cm3leon_jax.data.settings import PretrainingConfig
from cm3leon_jax.data.shards import BANK_SPLIT, PreparedData
from cm3leon_jax.data.splits import INTERLEAVED, PAIRS, SPLITS, TEXT_ONLY, split_name
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.vocabulary import UNK_ID, Vocabulary

RETRIEVAL_AUGMENTED = "retrieval_augmented_pairs"
PLAIN = "plain_pairs"
# The kind of documents that each task is made of.
_KINDS = {RETRIEVAL_AUGMENTED: PAIRS, PLAIN: PAIRS, "text_only": TEXT_ONLY, "interleaved": INTERLEAVED}


def register_pretraining(
    directory: Path,
    name: str,
    config: PretrainingConfig,
    objective: ObjectiveConfig,
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
            _add_task(f"{name}.{task}{suffix}", source, data, retrieved, objective, text_tokenizer)
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
    objective: ObjectiveConfig,
    text_tokenizer: TextDecoder | None,
) -> None:
    vocabulary = data.vocabulary
    assembling = AssembleDocuments(data.split(BANK_SPLIT), vocabulary, *retrieved)
    seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[assembling, CausalMasking(vocabulary, objective)],
        output_features={"tokens": seqio.Feature(JointVocabulary(vocabulary, text_tokenizer), add_eos=False)},
    )


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


def tasks_and_rates(name: str) -> list[tuple[seqio.Task, float]]:
    """The tasks of a registered mixture with their shares of the examples (adding up to 1), or a task alone."""
    try:
        found = seqio.get_mixture_or_task(name)
    except ValueError:
        known = sorted([*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()])
        raise UserError(f"no task or mixture {name!r}; registered are: {', '.join(known) or 'none'}") from None
    if isinstance(found, seqio.Task):
        return [(found, 1.0)]
    rates = [found.get_rate(task) for task in found.tasks]
    return [(task, rate / sum(rates)) for task, rate in zip(found.tasks, rates, strict=True) if rate]


def sample_sequences(name: str, *, split: str, count: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """`count` sequences of a registered mixture or task, drawn at random -> (task's name, ids) of each."""
    rng = np.random.default_rng(seed)
    tasks = [(RandomAccess(task, split), rate) for task, rate in tasks_and_rates(name)]
    drawn = [tasks[int(number)][0] for number in rng.choice(len(tasks), count, p=[rate for _, rate in tasks])]
    return [(task.name, task.sequence(seed, 0, int(rng.integers(len(task)))).tokens) for task in drawn]


class PreparedSource(seqio.DataSource):
    """The documents of one kind of prepared data as a seqio source; with `number`, those that came from that source.
    Elements hold int32 vectors "text" (joint ids), "image" (codes), "lengths" (of both, for each pair of them) and
    "neighbours" (places in "train"), and the integers "index", "seed" and "count" (elements in an epoch)."""

    # Of what `read` gives: types and shapes.
    features: ClassVar[dict[str, tuple[tf.DType, list]]] = dict.fromkeys(
        ("text", "image", "lengths", "neighbours"), (tf.int32, [None])
    )

    def __init__(self, data: PreparedData, kind: str = PAIRS, number: int | None = None):
        self._data, self._kind, self._number = data, kind, number
        names = {split: split_name(split, kind) for split in SPLITS}
        self._ranges = {split: self._range(name) for split, name in names.items() if name in data.splits}
        counts = {split: len(places) for split, places in self._ranges.items()}
        # Reading is random access, so there is nothing that an offline cache would make faster.
        super().__init__(splits=tuple(counts), num_input_examples=counts, caching_permitted=False)

    def _range(self, name: str) -> range:
        everything = range(len(self._data.split(name)))
        return everything if self._number is None else self._data.ranges(name)[self._number][0]

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """Names the data itself: every shard of it with its checksum."""
        return {"data": self._data.fingerprint, "kind": self._kind, "number": self._number}

    def list_shards(self, split: str) -> list[str]:
        return [split]

    def document(self, split: str, index: int) -> PreparedDocument:
        return self._data.split(split_name(split, self._kind))[self._ranges[split][index]]

    def read(self, split: str, index: int) -> Example:
        document = self.document(split, index)
        return joined_document(document) | {"neighbours": neighbours_of(document)}

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **_: Any,
    ) -> tf.data.Dataset:
        """Without a seed, everything random differs from call to call."""
        shard, shards = (shard_info.index, shard_info.num_shards) if shard_info else (0, 1)
        indices = range(shard, self.num_input_examples(split), shards)
        key = secrets.randbits(63) if seed is None else int(seed) % 2**63

        def read(index):
            example = self.read(split, int(index))
            return [example[name] for name in self.features]

        def element(index):
            values = tf.numpy_function(read, [index], [dtype for dtype, _ in self.features.values()])
            example = {
                name: tf.ensure_shape(x, shape)
                for (name, (_, shape)), x in zip(self.features.items(), values, strict=True)
            }
            integers = {"index": index, "seed": tf.constant(key, tf.int64)}
            return example | integers | {"count": tf.constant(len(indices), tf.int64)}

        dataset = tf.data.Dataset.range(indices.start, indices.stop, indices.step)
        if shuffle and indices:
            dataset = dataset.shuffle(len(indices), seed=seed)
        return dataset.map(element, num_parallel_calls=tf.data.AUTOTUNE)


class Sequence(NamedTuple):
    """One training sequence."""

    tokens: np.ndarray  # ids, int32 [length]
    retrieved: int  # documents before its own
    scored: np.ndarray | None = None  # bool [length]: ids that count in the loss; None: all


class RandomAccess:
    """A registered task read by (seed, epoch, index) instead of in order: what seqio gives for the same three."""

    def __init__(self, task: seqio.Task, split: str):
        source, preprocessors = task.source, task.preprocessors
        if not isinstance(source, PreparedSource) or not all(isinstance(step, Preprocessor) for step in preprocessors):
            raise UserError(f"task {task.name} cannot be read by random access: use a task of cm3leon_jax.data.tasks")
        if split not in source.splits:
            raise UserError(f"task {task.name} has no split {split!r}; it has {', '.join(source.splits)}")
        self.name = task.name
        self.vocabulary: Vocabulary = task.output_features["tokens"].vocabulary.vocabulary
        self._source, self._preprocessors, self._split = source, preprocessors, split

    def __len__(self) -> int:
        return self._source.num_input_examples(self._split)

    def sequence(self, seed: int, epoch: int, index: int) -> Sequence:
        example = self._source.read(self._split, index) | {"seed": seed, "epoch": epoch, "index": index}
        for preprocessor in self._preprocessors:
            example = preprocessor.step(example)
        scored = example.get("scored")
        return Sequence(
            example["tokens"], int(example["retrieved"][0]), None if scored is None else scored.astype(bool)
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What its sequences depend on, JSON-able."""
        steps = [{"step": type(step).__name__} | step.settings for step in self._preprocessors]
        return {"split": self._split, "steps": steps} | self._source.settings


class JointVocabulary(seqio.Vocabulary):
    """Our joint ids for seqio. Strings become text ids; any ids become readable text (`rendering.render`)."""

    def __init__(self, vocabulary: Vocabulary, text_tokenizer: TextDecoder | None = None):
        super().__init__(extra_ids=0)
        self.vocabulary = vocabulary
        self._text_tokenizer = text_tokenizer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JointVocabulary) and self.vocabulary == other.vocabulary

    def __hash__(self) -> int:
        return hash(self.vocabulary)

    @property
    def eos_id(self) -> None:
        """seqio would cut a sequence behind its first <eos>; ours start with it."""
        return

    @property
    def unk_id(self) -> int:
        return UNK_ID

    @property
    def _base_vocab_size(self) -> int:
        return self.vocabulary.size

    def _encode(self, s: str) -> np.ndarray:
        if self._text_tokenizer is None:
            raise UserError("this vocabulary has no text tokenizer; register the task with one")
        return self._text_tokenizer.encode(s)

    def _decode(self, ids: list[int]) -> str:
        return render(np.asarray(ids, np.int32), self.vocabulary, self._text_tokenizer)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        return tf.py_function(lambda text: self._encode(text.numpy().decode()), [s], tf.int32)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.py_function(lambda x: self._decode(x.numpy().tolist()), [ids], tf.string)
