"""seqio tasks over prepared data: pairs with retrieved documents, plain pairs, and their mixture.

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
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from cm3leon_jax.data.inspection import TextDecoder, render
from cm3leon_jax.data.objective import ObjectiveConfig
from cm3leon_jax.data.preprocessors import AssemblePairs, CausalMasking, Example, Preprocessor, neighbours_of
from cm3leon_jax.data.settings import PretrainingConfig
from cm3leon_jax.data.shards import BANK_SPLIT, PreparedData
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.vocabulary import UNK_ID, Vocabulary

RETRIEVAL_AUGMENTED = "retrieval_augmented_pairs"
PLAIN = "plain_pairs"


def register_pretraining(
    directory: Path,
    name: str,
    config: PretrainingConfig,
    objective: ObjectiveConfig,
    text_tokenizer: TextDecoder | None = None,
) -> str:
    """Registers the tasks `NAME.retrieval_augmented_pairs` and `NAME.plain_pairs` over a folder that `cm3leon prepare`
    wrote, and their mixture `NAME`; returns the mixture's name. With a text tokenizer, the feature's vocabulary decodes
    text as text. seqio's registries are process-global: `unregister(name)` takes all three out again.
    """
    data = PreparedData(directory)
    vocabulary = data.vocabulary
    if name in seqio.MixtureRegistry.names():
        raise UserError(f"a mixture {name!r} is registered already; choose another name")
    source = PreparedSource(data)
    retrieved = {RETRIEVAL_AUGMENTED: (config.retrieved_min, config.retrieved_max), PLAIN: (0, 0)}
    rates = {RETRIEVAL_AUGMENTED: config.retrieval_augmented_rate, PLAIN: config.plain_rate}
    tasks = []
    for kind, (fewest, most) in retrieved.items():
        assembling = AssemblePairs(data.split(BANK_SPLIT), vocabulary, fewest, most)
        seqio.TaskRegistry.add(
            f"{name}.{kind}",
            source=source,
            preprocessors=[assembling, CausalMasking(vocabulary, objective)],
            output_features={"tokens": seqio.Feature(JointVocabulary(vocabulary, text_tokenizer), add_eos=False)},
        )
        if rates[kind]:
            tasks.append((f"{name}.{kind}", rates[kind]))
    seqio.MixtureRegistry.add(name, tasks)
    return name


@contextlib.contextmanager
def pretraining_mixture(*arguments: Any, **options: Any) -> Iterator[str]:
    """`register_pretraining` for the time of a block; yields the mixture's name."""
    name = register_pretraining(*arguments, **options)
    try:
        yield name
    finally:
        unregister(name)


def unregister(name: str) -> None:
    """Takes what `register_pretraining` registered out of seqio's registries; nothing happens where it is not there."""
    seqio.MixtureRegistry.remove(name)
    for kind in (RETRIEVAL_AUGMENTED, PLAIN):
        seqio.TaskRegistry.remove(f"{name}.{kind}")


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
    return [(task.name, task.tokens(seed, 0, int(rng.integers(len(task))))) for task in drawn]


class PreparedSource(seqio.DataSource):
    """The documents of prepared data as a seqio source. Elements hold int32 vectors "text" (joint ids), "image" (codes)
    and "neighbours" (places in "train"), and the integers "index", "seed" and "count" (elements in an epoch)."""

    def __init__(self, data: PreparedData):
        self._data = data
        counts = {split: len(data.split(split)) for split in data.splits}
        # Reading is random access, so there is nothing that an offline cache would make faster.
        super().__init__(splits=data.splits, num_input_examples=counts, caching_permitted=False)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """Names the data itself: every shard of it with its checksum."""
        return {"data": self._data.fingerprint}

    def list_shards(self, split: str) -> list[str]:
        return [split]

    def read(self, split: str, index: int) -> Example:
        document = self._data.split(split)[index]
        return {"text": document.text, "image": document.image, "neighbours": neighbours_of(document)}

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
        names = ("text", "image", "neighbours")

        def read(index):
            example = self.read(split, int(index))
            return [example[name] for name in names]

        def element(index):
            vectors = tf.numpy_function(read, [index], [tf.int32] * len(names))
            example = {name: tf.ensure_shape(x, [None]) for name, x in zip(names, vectors, strict=True)}
            integers = {"index": index, "seed": tf.constant(key, tf.int64)}
            return example | integers | {"count": tf.constant(len(indices), tf.int64)}

        dataset = tf.data.Dataset.range(indices.start, indices.stop, indices.step)
        if shuffle and indices:
            dataset = dataset.shuffle(len(indices), seed=seed)
        return dataset.map(element, num_parallel_calls=tf.data.AUTOTUNE)


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

    def tokens(self, seed: int, epoch: int, index: int) -> np.ndarray:
        """-> ids, int32 [length]."""
        example = self._source.read(self._split, index) | {"seed": seed, "epoch": epoch, "index": index}
        for preprocessor in self._preprocessors:
            example = preprocessor.step(example)
        return example["tokens"]

    @property
    def settings(self) -> dict[str, Any]:
        """What its sequences depend on, JSON-able."""
        steps = [{"step": type(step).__name__} | step.settings for step in self._preprocessors]
        return {"split": self._split, "steps": steps} | self._source.settings


class JointVocabulary(seqio.Vocabulary):
    """Our joint ids for seqio. Strings become text ids; any ids become readable text (`inspection.render`)."""

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
