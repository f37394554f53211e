"""seqio's side of packing: tasks whose examples keep their length, and the converter that makes rows of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar

import seqio
import tensorflow as tf

from cm3leon_jax.data.joint_vocabulary import JointVocabulary
from cm3leon_jax.data.objective import Objective
from cm3leon_jax.data.packing import Row, pack
from cm3leon_jax.data.preprocessors import Preprocessor, example_of
from cm3leon_jax.data.settings import StreamConfig
from cm3leon_jax.documents import COUNTED, PositionRule


class ExampleTask(seqio.Task):
    """A task whose examples are not cut to the length of a row: rows are cut out of them later."""

    def _trim_output_features(self, dataset: tf.data.Dataset, sequence_length: object) -> tf.data.Dataset:
        return dataset


def add_task(name: str, source: seqio.DataSource, preprocessor: Preprocessor, vocabulary: JointVocabulary) -> None:
    """Registers a task of the examples that a preprocessor makes; their features are int32 vectors."""
    others = seqio.PassThroughVocabulary(vocabulary.vocab_size)
    features = {
        feature: seqio.Feature(vocabulary if feature == "tokens" else others, add_eos=False)
        for feature in preprocessor.adds
    }
    seqio.TaskRegistry.add(
        name, source=source, preprocessors=[preprocessor], output_features=features, task_cls=ExampleTask
    )


class RowConverter(seqio.FeatureConverter):
    """Examples of our tasks -> rows of the asked number of tokens (`packing.py`), by the settings of the stream that
    concern packing. Of the same examples in the same order, the rows are those of the training stream."""

    TASK_FEATURES: ClassVar = {"tokens": seqio.FeatureConverter.FeatureSpec(tf.int32)}
    MODEL_FEATURES: ClassVar = {
        name: seqio.FeatureConverter.FeatureSpec(tf.float32 if name == "weights" else tf.int32)
        for name in ("tokens", "targets", "weights", "positions", "segments", "retrieved")
    }
    PACKING_FEATURE_DTYPES: ClassVar[dict[str, tf.DType]] = {}

    def __init__(self, config: StreamConfig, objective: Objective, position_rule: PositionRule = COUNTED):
        super().__init__(pack=False, apply_length_check=False)  # seqio's packing, and its limit to examples
        self._config, self._objective, self._rule = config, objective, position_rule

    def _convert_features(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        config = dataclasses.replace(self._config, length=task_feature_lengths["tokens"])

        def rows() -> Iterator[Row]:
            return pack(map(example_of, ds.as_numpy_iterator()), config, self._objective, self._rule)

        signature = {
            name: tf.TensorSpec([config.length], feature.dtype) for name, feature in self.MODEL_FEATURES.items()
        }
        return tf.data.Dataset.from_generator(rows, output_signature=signature)

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> Mapping[str, int]:
        return dict.fromkeys(self.MODEL_FEATURES, task_feature_lengths["tokens"])
