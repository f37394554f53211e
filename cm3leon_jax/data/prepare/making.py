"""The first and long stage of preparing: the examples of a shard of the source -> its parts.

All that needs a model is made here: text ids, image codes, embeddings, and the embeddings of the queries.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from cm3leon_jax.data.prepare.counting import report
from cm3leon_jax.data.prepare.job import Job, Models
from cm3leon_jax.data.prepare.parts import Documents, Images, Labels, Part, write_parts
from cm3leon_jax.data.prepare.signatures import (
    THUMBNAIL,
    caption_key,
    document_digest,
    hash64,
    pixel_digest,
    sketches,
    thumbnail,
)
from cm3leon_jax.data.records import PreparedDocument, encode_document
from cm3leon_jax.data.shards import BANK_SPLIT
from cm3leon_jax.data.sources import BadExample, SourceExample, fit_image
from cm3leon_jax.data.splits import SPLITS
from cm3leon_jax.documents import Document
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import fingerprint


def make_parts(job: Job, shard: int) -> None:
    """Tokenizes and embeds the examples of a shard."""
    write_parts(job, shard, _make(job, shard))


@dataclasses.dataclass(frozen=True)
class _Input:
    """One good example, ready for the models: texts int32 [T], each with the image (uint8 [R, R, 3]) after it."""

    id: str
    caption: str
    pairs: list[tuple[np.ndarray, np.ndarray | None]]
    digest: int
    caption_key: int
    group: str
    images: list[tuple[int, np.ndarray]]  # of each image its digest and its thumbnail
    metadata: dict[str, Any]


def _make(job: Job, shard: int) -> dict[str, Part]:
    source, config = job.shards[shard], job.settings.prepare
    inputs: dict[str, list[_Input]] = collections.defaultdict(list)
    batches: dict[str, list[_Batch]] = collections.defaultdict(list)
    quarantined: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)

    def run(split: str) -> None:
        seed = int(fingerprint(config.seed, source.name, split, len(batches[split]))[:7], 16)
        # Training queries are varied, so that the neighbours are not too alike; evaluation asks as a user does.
        drop = config.query_drop if split == BANK_SPLIT else 0.0
        first = sum(len(batch.labels) for batch in batches[split])
        batch = inputs.pop(split)
        batches[split].append(_Batch(*_tell_apart(batch, first), _run_models(batch, job.models, drop, seed)))

    for split, item in _read_ahead(job, source.examples()):
        if isinstance(item, BadExample):
            quarantined[split].append((item.id, item.reason))
        else:
            inputs[split].append(item)
        if len(inputs[split]) == config.batch_size:
            run(split)
        report(1)
    for split in [split for split, waiting in inputs.items() if waiting]:
        run(split)
    parts = {}
    for split in sorted(batches.keys() | quarantined.keys()):
        found = batches[split] or [_Batch(*_tell_apart([], 0), _run_models([], job.models, 0.0, 0))]
        labels, images, thumbnails, documents = zip(*found, strict=True)
        parts[split] = Part(
            Labels.join(list(labels)),
            Images.join(list(images)),
            np.concatenate(thumbnails),
            Documents.join(list(documents)),
            quarantined[split],
        )
    return parts


class _Batch(NamedTuple):
    """Some examples of a part; the columns are the part's."""

    labels: Labels
    images: Images
    thumbnails: np.ndarray
    documents: Documents


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
    _check_boxes(example, resolution, fit)
    fitted = [fit_image(image, resolution, fit) if image.size else None for image in images]
    return _Input(
        example.id,
        example.caption,
        list(zip(ids, fitted, strict=True)),
        document_digest(example.pairs),
        caption_key(" ".join(texts)),
        example.group or example.id,
        [(pixel_digest(image), thumbnail(image)) for image in fitted if image is not None],
        example.metadata,
    )


def _check_boxes(example: SourceExample, resolution: int, fit: str) -> None:
    """Boxes in an instruction's words are in pixels of the square that the model sees. `UserError`: of another."""
    if example.metadata.get(KEY, {}).get("task") != "ground":
        return
    of_boxes = example.metadata.get("resolution", resolution), example.metadata.get("fit", fit)
    if of_boxes != (resolution, fit):
        raise UserError(
            f"the boxes of {example.id} are for pictures of {of_boxes[0]} pixels with fit {of_boxes[1]!r}, but the "
            f"image tokenizer's have {resolution} and PrepareConfig.fit is {fit!r}: name the source with "
            f"?resolution={resolution}&fit={fit} (scenes: render them so)"
        )


def _tell_apart(inputs: list[_Input], first: int) -> tuple[Labels, Images, np.ndarray]:
    """What tells examples and their images apart, and the images' thumbnails. The examples are rows `first`, … of the
    part."""
    labels = Labels(
        ids=[item.id for item in inputs],
        id_keys=np.array([hash64(item.id) for item in inputs], np.uint64),
        digests=np.array([item.digest for item in inputs], np.uint64),
        caption_keys=np.array([item.caption_key for item in inputs], np.uint64),
        groups=np.array([hash64(item.group) for item in inputs], np.uint64),
        are_instructions=np.array([KEY in item.metadata for item in inputs], bool),
    )
    images = [(row, *image) for row, item in enumerate(inputs, start=first) for image in item.images]
    thumbnails = np.array([each for _, _, each in images], np.uint8).reshape(-1, THUMBNAIL)
    rows, pixels = np.array([row for row, _, _ in images], np.int32), np.array([d for _, d, _ in images], np.uint64)
    return labels, Images(rows, pixels, sketches(thumbnails)), thumbnails


def _run_models(inputs: list[_Input], models: Models, query_drop: float, seed: int) -> Documents:
    """Of the tokens and patches of the queries for neighbours a share `query_drop` is dropped."""
    retriever = models.retriever
    captions, images = [item.caption for item in inputs], [item.pairs[0][1] for item in inputs]

    def by_text(*drop: Any) -> np.ndarray:
        return _embedded(retriever.embed_texts, captions, retriever.dim, *drop)

    def by_image(*drop: Any) -> np.ndarray:
        return _embedded(retriever.embed_images, images, retriever.dim, *drop)

    texts_embedded, images_embedded = by_text(), by_image()
    return Documents(
        records=_records(inputs, models, texts_embedded, images_embedded),
        embeddings=retriever.combine(texts_embedded, images_embedded) if inputs else texts_embedded,
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
