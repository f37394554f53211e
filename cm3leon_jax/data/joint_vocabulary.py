"""The joint ids of text and images as a seqio vocabulary."""

from __future__ import annotations

import numpy as np
import seqio
import tensorflow as tf

from cm3leon_jax.data.inspection.rendering import TextDecoder, render
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import UNK_ID, Vocabulary


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
