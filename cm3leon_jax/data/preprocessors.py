"""What is done to one prepared document to make an example; masks are drawn later, on rows (`packing.py`). One
definition, two uses: as seqio preprocessors over a `tf.data.Dataset`, and by random access from the training stream.

Randomness is keyed by (seed, stage, epoch, index) and by nothing else, so both uses give the same examples.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from cm3leon_jax.data.objective import Example
from cm3leon_jax.data.randomness import keyed_rng
from cm3leon_jax.data.records import PreparedDocument
from cm3leon_jax.data.shards import PreparedSplit
from cm3leon_jax.documents import Document, Span, assemble
from cm3leon_jax.vocabulary import Vocabulary

# Of an example: name -> int32 vector, or an integer: "seed", "index", "count" and, by random access, "epoch".
Features = dict[str, Any]


class Preprocessor(abc.ABC):
    """A step from an example to more of it. Subclasses say what they add, and how they do it with numpy."""

    stage: ClassVar[int]  # its number among the steps that draw random numbers for the same example
    adds: ClassVar[tuple[str, ...]]  # names of the int32 vectors that `apply` returns

    @abc.abstractmethod
    def apply(self, example: Features, rng: np.random.Generator) -> Features:
        """-> the vectors named in `adds`."""

    @property
    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the result depends on besides the example, JSON-able: it names the stream."""

    def step(self, example: Features) -> Features:
        """By random access: the example, with "seed", "epoch" and "index", and what this step adds."""
        rng = keyed_rng(example["seed"], self.stage, example["epoch"], example["index"])
        return example | self.apply(example, rng)

    def __call__(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """As a seqio preprocessor. seqio repeats the source before it, so the running number gives the epoch."""

        def step(number, example):
            names = sorted(example)

            def run(epoch, *values):
                given = dict(zip(names, values, strict=True)) | {"epoch": int(epoch)}
                given |= {name: int(given[name]) for name in ("seed", "index")}
                result = self.step(given)
                return [result[name] for name in self.adds]

            inputs = [number // example["count"], *(example[name] for name in names)]
            added = tf.numpy_function(run, inputs, [tf.int32] * len(self.adds))
            return example | {name: tf.ensure_shape(x, [None]) for name, x in zip(self.adds, added, strict=True)}

        return dataset.enumerate().map(step, num_parallel_calls=tf.data.AUTOTUNE)


@dataclasses.dataclass(frozen=True)
class AssembleDocuments(Preprocessor):
    """A document behind so many of its retrieved ones, drawn without replacement and in a new order each time it is
    used (CM3Leon §2.1; three of four there). A document with fewer neighbours than were drawn for gets all it has."""

    stage = 1
    adds = ("tokens", "retrieved", "key")  # the second: how many documents stand before the example's own, [1]

    bank: PreparedSplit  # where neighbours are looked up
    vocabulary: Vocabulary
    fewest: int  # retrieved documents; each number from `fewest` to `most` is as likely
    most: int

    def apply(self, example: Features, rng: np.random.Generator) -> Features:
        neighbours = example["neighbours"]
        count = self.fewest + int(rng.random() * (self.most - self.fewest + 1))
        drawn = neighbours[rng.permutation(len(neighbours))[:count]] if count and len(neighbours) else ()
        documents = [as_document(self.bank[int(index)]) for index in drawn]
        tokens = assemble([*documents, *split_document(example)], self.vocabulary)
        return {"tokens": tokens, "retrieved": np.array([len(documents)], np.int32), "key": draw_key(rng)}

    @property
    def settings(self) -> dict[str, Any]:
        return {"retrieved": [self.fewest, self.most], "vocabulary": dataclasses.asdict(self.vocabulary)}


def draw_key(rng: np.random.Generator) -> np.ndarray:
    """`objective.Example.key` as the vector that seqio can hold, int32 [2]."""
    return rng.integers(1 << 31, size=2, dtype=np.int32)


def example_of(features: Features) -> Example:
    """What a task gives -> an example."""
    high, low = (int(part) for part in features["key"])
    answers = np.reshape(features.get("answers", ()), (-1, 2)).astype(int).tolist()
    return Example(
        features["tokens"], high << 31 | low, int(features["retrieved"][0]), tuple(Span(*each) for each in answers)
    )


def as_document(prepared: PreparedDocument) -> Document:
    return Document(prepared.text, prepared.image)


def joined_document(prepared: PreparedDocument) -> Features:
    """A document as vectors: its texts one behind the other, its images likewise, and the lengths of both, [2 * n]."""
    documents = prepared.documents
    return {
        "text": np.concatenate([each.text for each in documents]),
        "image": np.concatenate([each.image for each in documents]),
        "lengths": np.array([[len(each.text), len(each.image)] for each in documents], np.int32).reshape(-1),
    }


def split_document(example: Features) -> list[Document]:
    """The inverse of `joined_document`."""
    ends = np.cumsum(example["lengths"].reshape(-1, 2), axis=0)[:-1]
    texts, images = np.split(example["text"], ends[:, 0]), np.split(example["image"], ends[:, 1])
    return [Document(text, image) for text, image in zip(texts, images, strict=True)]


def neighbours_of(prepared: PreparedDocument) -> np.ndarray:
    """Places in the split "train" of all stored neighbours, found by image first, each once. int32 [<= 4]."""
    both = [*prepared.neighbours_by_image.tolist(), *prepared.neighbours_by_text.tolist()]
    return np.array(list(dict.fromkeys(both)), np.int32)
