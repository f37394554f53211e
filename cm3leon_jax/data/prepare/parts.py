"""The first and long stage of preparing: the examples of a shard of the source -> parts, one for each split.

A part holds what needs a model: text ids, image codes, embeddings, and the embeddings of the queries; and what tells
duplicates. The parts of a shard are written all or none, so that a killed run continues at the shard where it stopped.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np

from cm3leon_jax.data.prepare.job import Job, Models
from cm3leon_jax.data.prepare.likeness import NO_HASH, caption_key, difference_hash, digest
from cm3leon_jax.data.prepare.workers import report
from cm3leon_jax.data.records import PreparedDocument, encode_document
from cm3leon_jax.data.shards import BANK_SPLIT
from cm3leon_jax.data.sources import BadExample, SourceExample, fit_image
from cm3leon_jax.data.splits import SPLITS
from cm3leon_jax.documents import Document
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
    write_parts(job, shard, _make(job, shard))


def write_parts(job: Job, shard: int, parts: dict[str, Part]) -> None:
    """Writes the parts of all splits of a shard, all or none."""
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
    """One good example, ready for the models: texts int32 [T], each with the image (uint8 [R, R, 3]) behind it."""

    id: str
    caption: str
    pairs: list[tuple[np.ndarray, np.ndarray | None]]
    digest: int
    caption_key: int
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
            waiting.append((split, pool.submit(_read, job, split, read)))
            if len(waiting) >= 2 * job.settings.prepare.batch_size:
                yield first()
        while waiting:
            yield first()


def _read(job: Job, split: str, read: Callable[[], SourceExample]) -> _Input | BadExample:
    try:
        example = read()
    except BadExample as bad:
        return bad
    texts, images = zip(*example.pairs, strict=True)
    ids = [job.models.text.encode(text) for text in texts]
    if any(text and not len(of_text) for text, of_text in zip(texts, ids, strict=True)):
        return BadExample(example.id, "the text tokenizer makes no tokens of the caption")
    longest = job.settings.prepare.max_caption_tokens
    if split in SPLITS and len(ids[0]) > longest:
        return BadExample(example.id, f"the caption has {len(ids[0])} tokens, more than {longest}")
    resolution, fit = job.models.image.resolution, job.settings.prepare.fit
    fitted = [fit_image(image, resolution, fit) if image.size else None for image in images]
    return _Input(
        example.id,
        example.caption,
        list(zip(ids, fitted, strict=True)),
        digest(example.pairs),
        caption_key(" ".join(texts)),
        example.metadata,
    )


def _run_models(inputs: list[_Input], models: Models, query_drop: float, seed: int) -> Part:
    """Of the tokens and patches of the queries for neighbours a share `query_drop` is dropped."""
    retriever = models.retriever
    captions, images = [item.caption for item in inputs], [item.pairs[0][1] for item in inputs]

    def by_text(*drop: Any) -> np.ndarray:
        return _embedded(retriever.embed_texts, captions, retriever.dim, *drop)

    def by_image(*drop: Any) -> np.ndarray:
        return _embedded(retriever.embed_images, images, retriever.dim, *drop)

    texts_embedded, images_embedded = by_text(), by_image()
    return Part(
        ids=[item.id for item in inputs],
        records=_records(inputs, models, texts_embedded, images_embedded),
        quarantined=[],
        digests=np.array([item.digest for item in inputs], np.uint64),
        caption_keys=np.array([item.caption_key for item in inputs], np.uint64),
        image_hashes=np.stack([NO_HASH if image is None else difference_hash(image) for image in images]),
        embeddings=retriever.combine(texts_embedded, images_embedded),
        queries_by_image=by_image(query_drop, seed) if query_drop else images_embedded,
        queries_by_text=by_text(query_drop, seed) if query_drop else texts_embedded,
    )


def _embedded(embed: Callable[..., np.ndarray], items: Sequence[Any], dim: int, *settings: Any) -> np.ndarray:
    """Embeddings [N, D]; zeros for a text that is "", and an image that is None."""
    there = [item is not None and len(item) > 0 for item in items]
    present = [item for item, is_there in zip(items, there, strict=True) if is_there]
    vectors = np.zeros((len(items), dim), np.float32)
    if present:
        stacked = present if isinstance(present[0], str) else np.stack(present)
        vectors[there] = embed(stacked, *settings)
    return vectors


def _records(inputs: list[_Input], models: Models, texts: np.ndarray, images: np.ndarray) -> list[bytes]:
    none = np.zeros(0, np.int32)
    pictures = [image for item in inputs for _, image in item.pairs if image is not None]
    codes = iter(models.image.encode(np.stack(pictures)) if pictures else ())
    records = []
    for item, text_embedding, image_embedding in zip(inputs, texts, images, strict=True):
        first, *following = [Document(text, none if image is None else next(codes)) for text, image in item.pairs]
        document = PreparedDocument(
            id=item.id,
            caption=item.caption,
            text=first.text,
            image=first.image,
            text_embedding=text_embedding,
            image_embedding=image_embedding,
            neighbours_by_image=none,
            neighbours_by_text=none,
            scores_by_image=none,
            scores_by_text=none,
            metadata=item.metadata,
            following=tuple(following),
        )
        records.append(encode_document(document))
    return records
