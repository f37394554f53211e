"""The first and long stage of preparing: the examples of a shard of the source -> parts, one for each split.

A part holds what needs a model: text ids, image codes, embeddings, and the embeddings of the queries; and what tells
duplicates. The parts of a shard are written all or none, so that a killed run continues at the shard where it stopped.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np

from cm3leon_jax.data.prepare.job import Job, Models
from cm3leon_jax.data.prepare.likeness import caption_key, difference_hash, digest
from cm3leon_jax.data.prepare.workers import report
from cm3leon_jax.data.records import PreparedDocument, encode_document
from cm3leon_jax.data.shards import BANK_SPLIT
from cm3leon_jax.data.sources import BadExample, SourceExample, fit_image
from cm3leon_jax.runtime.files import fingerprint, new_directory, read_json, write_json

_SUMMARY_FILE = "summary.json"


@dataclasses.dataclass(frozen=True)
class Part:
    """n documents of one shard and split, and the examples among them that cannot be used."""

    ids: list[str]
    records: list[bytes]  # documents without neighbours
    quarantined: list[list[str]]  # [id, reason]
    digests: np.ndarray  # uint64 [n], of image and caption: equal for exact duplicates
    caption_keys: np.ndarray  # uint64 [n]: equal for captions that say the same
    image_hashes: np.ndarray  # uint8 [n, 32]: few bits differ for images that look alike
    embeddings: np.ndarray  # float32 [n, D], of the documents: what the memory bank holds
    queries_by_image: np.ndarray  # float32 [n, D]
    queries_by_text: np.ndarray  # float32 [n, D]

    def write(self, path: pathlib.Path) -> None:
        fields = dict(vars(self))
        for name in _MATRICES:
            fields[name] = [fields[name].dtype.str, fields[name].shape, fields[name].tobytes()]
        path.write_bytes(msgpack.packb(fields))

    @classmethod
    def read(cls, job: Job, shard: int, split: str) -> Part:
        fields = msgpack.unpackb(job.path("parts", f"{shard:05d}", f"{split}.msgpack").read_bytes())
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


_MATRICES = (
    "digests",
    "caption_keys",
    "image_hashes",
    "embeddings",
    "queries_by_image",
    "queries_by_text",
)


def make_parts(job: Job, shard: int) -> None:
    """Tokenizes and embeds the examples of a shard."""
    parts = _make(job, shard)
    with new_directory(job.path("parts", f"{shard:05d}")) as aside:
        for split, part in parts.items():
            part.write(aside / f"{split}.msgpack")
        counts = {split: [len(part.ids), len(part.quarantined)] for split, part in parts.items()}
        write_json(aside / _SUMMARY_FILE, counts)


def part_counts(job: Job, shard: int) -> dict[str, tuple[int, int]] | None:
    """Of each split that a shard has: its documents, and its examples that cannot be used. None: not made yet."""
    path = job.path("parts", f"{shard:05d}", _SUMMARY_FILE)
    if not path.exists():
        return None
    counts = read_json(path, what="summary", make_with="cm3leon prepare")
    return {split: (documents, bad) for split, (documents, bad) in counts.items()}


@dataclasses.dataclass(frozen=True)
class _Input:
    """One good example, ready for the models."""

    id: str
    caption: str
    text: np.ndarray  # int32 [T]
    image: np.ndarray  # uint8 [R, R, 3]
    digest: int
    metadata: dict[str, Any]


def _make(job: Job, shard: int) -> dict[str, Part]:
    source, config = job.shards[shard], job.settings.prepare
    inputs: dict[str, list[_Input]] = collections.defaultdict(list)
    batches: dict[str, list[Part]] = collections.defaultdict(list)
    quarantined: dict[str, list[list[str]]] = collections.defaultdict(list)

    def run(split: str) -> None:
        seed = int(fingerprint(config.seed, source.name, split, len(batches[split]))[:7], 16)
        # Training queries are varied, so that the neighbours are not too alike; evaluation asks as a user does.
        drop = config.query_drop if split == BANK_SPLIT else 0.0
        batches[split].append(_run_models(inputs.pop(split), job.models, drop, seed))

    for split, item in _read_ahead(job, source.examples()):
        if isinstance(item, BadExample):
            quarantined[split].append([item.id, item.reason])
        else:
            inputs[split].append(item)
        if len(inputs[split]) == config.batch_size:
            run(split)
        report(1)
    for split in [split for split, waiting in inputs.items() if waiting]:
        run(split)
    nothing = _nothing(job.models.retriever.dim)
    return {
        split: Part.join([*batches[split], dataclasses.replace(nothing, quarantined=quarantined[split])])
        for split in sorted(batches.keys() | quarantined.keys())
    }


def _nothing(dim: int) -> Part:
    vectors = np.zeros((0, dim), np.float32)
    hashes = np.zeros(0, np.uint64)
    return Part([], [], [], hashes, hashes, np.zeros((0, 32), np.uint8), vectors, vectors, vectors)


def _read_ahead(
    job: Job, examples: Iterator[tuple[str, Callable[[], SourceExample]]]
) -> Iterator[tuple[str, _Input | BadExample]]:
    """Examples in order, decoded by threads while the models run; at most two batches of them wait."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting: collections.deque[tuple[str, Future[_Input | BadExample]]] = collections.deque()

        def first() -> tuple[str, _Input | BadExample]:
            split, future = waiting.popleft()
            return split, future.result()

        for split, read in examples:
            waiting.append((split, pool.submit(_read, job, read)))
            if len(waiting) >= 2 * job.settings.prepare.batch_size:
                yield first()
        while waiting:
            yield first()


def _read(job: Job, read: Callable[[], SourceExample]) -> _Input | BadExample:
    try:
        example = read()
    except BadExample as bad:
        return bad
    text, longest = job.models.text.encode(example.caption), job.settings.prepare.max_caption_tokens
    if not len(text):
        return BadExample(example.id, "the text tokenizer makes no tokens of the caption")
    if len(text) > longest:
        return BadExample(example.id, f"the caption has {len(text)} tokens, more than {longest}")
    image = fit_image(example.image, job.models.image.resolution)
    exact = digest(example.image, example.caption)
    return _Input(example.id, example.caption, text, image, exact, example.metadata)


def _run_models(inputs: list[_Input], models: Models, query_drop: float, seed: int) -> Part:
    """Of the tokens and patches of the queries for neighbours a share `query_drop` is dropped."""
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
        caption_keys=np.array([caption_key(caption) for caption in captions], np.uint64),
        image_hashes=np.stack([difference_hash(image) for image in images]),
        embeddings=retriever.combine(by_text, by_image),
        queries_by_image=retriever.embed_images(images, query_drop, seed) if query_drop else by_image,
        queries_by_text=retriever.embed_texts(captions, query_drop, seed) if query_drop else by_text,
    )
