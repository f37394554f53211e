"""The first and long stage of preparing: examples of the source -> parts, one file for each shard to be.

A part holds what needs a model: text ids, image codes, embeddings, and the embeddings of the queries. It is written
whole or not at all, so that a killed run continues at the part where it stopped.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from cm3leon_jax.data.prepare.config import PrepareConfig
from cm3leon_jax.data.records import PreparedDocument, encode_document
from cm3leon_jax.data.sources import BadExample, SourceSplit, fit_image
from cm3leon_jax.runtime.files import fingerprint, written_aside

if TYPE_CHECKING:
    from cm3leon_jax.retrieval.clip.retriever import Retriever
    from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
    from cm3leon_jax.tokenizers.text import TextTokenizer


@dataclasses.dataclass(frozen=True)
class Models:
    text: TextTokenizer
    image: ImageTokenizer
    retriever: Retriever

    @property
    def fingerprints(self) -> dict[str, str]:
        return {
            "text": self.text.fingerprint,
            "image": self.image.fingerprint,
            "retriever": self.retriever.fingerprint,
        }


@dataclasses.dataclass(frozen=True)
class Part:
    """n documents of consecutive examples of one split, and the examples among them that cannot be used."""

    ids: list[str]
    records: list[bytes]  # documents without neighbours
    quarantined: list[list[str]]  # [id, reason]
    digests: np.ndarray  # uint64 [n], of image and caption: equal for exact duplicates
    embeddings: np.ndarray  # float32 [n, D], of the documents: what the memory bank holds
    queries_by_image: np.ndarray  # float32 [n, D]
    queries_by_text: np.ndarray  # float32 [n, D]

    def write(self, path: pathlib.Path) -> None:
        fields = dict(vars(self))
        for name in _MATRICES:
            fields[name] = [fields[name].dtype.str, fields[name].shape, fields[name].tobytes()]
        with written_aside(path) as aside:
            aside.write_bytes(msgpack.packb(fields))

    @classmethod
    def read(cls, path: pathlib.Path) -> Part:
        fields = msgpack.unpackb(path.read_bytes())
        for name in _MATRICES:
            dtype, shape, data = fields[name]
            fields[name] = np.frombuffer(data, dtype).reshape(shape)
        return cls(**fields)

    def take(self, mask: np.ndarray) -> Part:
        """Only the documents where `mask` (bool [n]) is true."""
        kept: dict[str, Any] = {name: getattr(self, name)[mask] for name in _MATRICES}
        for name in ("ids", "records"):
            kept[name] = [item for item, keep in zip(getattr(self, name), mask, strict=True) if keep]
        return Part(quarantined=self.quarantined, **kept)

    @classmethod
    def join(cls, parts: list[Part]) -> Part:
        joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _MATRICES}
        for name in ("ids", "records", "quarantined"):
            joined[name] = [item for part in parts for item in getattr(part, name)]
        return cls(**joined)


_MATRICES = ("digests", "embeddings", "queries_by_image", "queries_by_text")


@dataclasses.dataclass(frozen=True)
class _Input:
    """One good example, ready for the models."""

    id: str
    caption: str
    text: np.ndarray  # int32 [T]
    image: np.ndarray  # uint8 [R, R, 3]
    digest: int
    metadata: dict[str, Any]


def make_part(
    split: SourceSplit, examples: range, models: Models, config: PrepareConfig, *, query_drop: float, progress: Any
) -> Part:
    """Tokenizes and embeds the `examples` of a split; `progress` is a bar that hears of each.

    Of the tokens and patches of the queries for neighbours a share `query_drop` is dropped.
    """
    seed = int(fingerprint(config.seed, examples.start)[:7], 16)
    quarantined: list[list[str]] = []
    batches: list[Part] = []
    inputs: list[_Input] = []
    for item in _read_ahead(split, examples, models, config):
        if isinstance(item, BadExample):
            quarantined.append([item.id, item.reason])
        else:
            inputs.append(item)
        if len(inputs) == config.batch_size:
            batches.append(_run_models(inputs, models, query_drop, seed + len(batches)))
            inputs = []
        progress.update()
    if inputs:
        batches.append(_run_models(inputs, models, query_drop, seed + len(batches)))
    nothing = np.zeros((0, models.retriever.dim), np.float32)
    rest = Part([], [], quarantined, np.zeros(0, np.uint64), nothing, nothing, nothing)
    return Part.join([*batches, rest])


def _read_ahead(
    split: SourceSplit, examples: range, models: Models, config: PrepareConfig
) -> Iterator[_Input | BadExample]:
    """Examples in order, decoded by threads while the models run; at most two batches of them wait."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting: collections.deque[Future[_Input | BadExample]] = collections.deque()
        for index in examples:
            waiting.append(pool.submit(_read, split, index, models, config))
            if len(waiting) >= 2 * config.batch_size:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(split: SourceSplit, index: int, models: Models, config: PrepareConfig) -> _Input | BadExample:
    try:
        example = split[index]
    except BadExample as bad:
        return bad
    text = models.text.encode(example.caption)
    if not len(text):
        return BadExample(example.id, "the text tokenizer makes no tokens of the caption")
    if len(text) > config.max_caption_tokens:
        return BadExample(example.id, f"the caption has {len(text)} tokens, more than {config.max_caption_tokens}")
    image = fit_image(example.image, models.image.resolution)
    digest = _digest(example.image, example.caption)
    return _Input(example.id, example.caption, text, image, digest, example.metadata)


def _digest(image: np.ndarray, caption: str) -> int:
    digest = hashlib.blake2b(f"{image.shape} {caption}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(image).data)
    return int.from_bytes(digest.digest(), "little")


def _run_models(inputs: list[_Input], models: Models, query_drop: float, seed: int) -> Part:
    retriever = models.retriever
    captions = [item.caption for item in inputs]
    images = np.stack([item.image for item in inputs])
    codes = models.image.encode(images)
    by_image, by_text = retriever.embed_images(images), retriever.embed_texts(captions)
    none = np.zeros(0, np.int32)
    records = []
    for item, image, text_embedding, image_embedding in zip(inputs, codes, by_text, by_image, strict=True):
        document = PreparedDocument(
            id=item.id,
            caption=item.caption,
            text=item.text,
            image=image,
            text_embedding=text_embedding,
            image_embedding=image_embedding,
            neighbours_by_image=none,
            neighbours_by_text=none,
            scores_by_image=none,
            scores_by_text=none,
            metadata=item.metadata,
        )
        records.append(encode_document(document))
    return Part(
        ids=[item.id for item in inputs],
        records=records,
        quarantined=[],
        digests=np.array([item.digest for item in inputs], np.uint64),
        embeddings=retriever.combine(by_text, by_image),
        queries_by_image=retriever.embed_images(images, query_drop, seed) if query_drop else by_image,
        queries_by_text=retriever.embed_texts(captions, query_drop, seed) if query_drop else by_text,
    )
