"""Prepared documents and instructions of any size, without tokenizers: every text and image is random, so that ids
alone tell which document they are from."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from cm3leon_jax.data.records import PreparedDocument, encode_document
from cm3leon_jax.data.shards import FORMAT, MANIFEST_FILE, describe_shard, shard_name, write_shard
from cm3leon_jax.instructions.instruction import KEY
from cm3leon_jax.runtime.files import write_json
from cm3leon_jax.vocabulary import NUM_CONTROL, Vocabulary


class NumberTokenizer:
    """A text tokenizer whose texts are their ids: "17 204"."""

    fingerprint = "numbers"

    def encode(self, text: str) -> np.ndarray:
        return np.array([int(number) for number in text.split()], np.int32)

    def encode_parts(self, parts: list[str]) -> list[np.ndarray]:
        return [self.encode(part) for part in parts]

    def decode(self, ids: np.ndarray) -> str:
        return " ".join(map(str, np.asarray(ids).tolist()))


def simulate(
    folder: pathlib.Path, vocabulary: Vocabulary, count: int, *, text_tokens: int, answer_tokens: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Writes prepared data: `count` pairs of a text of `text_tokens` and an image; with `answer_tokens`, instructions:
    a question, an answer of so many tokens, an image. -> text (the answer last) and codes of each."""
    rng, made, records = np.random.default_rng(0), [], []
    for index in range(count):
        text = random_text(vocabulary, text_tokens + answer_tokens, rng)
        parts = [text[:text_tokens], text[text_tokens:]]
        written = [{"text": " ".join(map(str, part.tolist()))} for part in parts]
        metadata = {KEY: {"parts": [*written, {"image": True}], "answers": [1]}} if answer_tokens else {}
        document = random_document(index, count, text, vocabulary, rng, metadata=metadata)
        made.append((text, document.image))
        records.append(encode_document(document))
    write_documents(folder, vocabulary, records, count)
    return made


def random_text(vocabulary: Vocabulary, tokens: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(NUM_CONTROL, vocabulary.text_size, tokens).astype(np.int32)


def random_document(
    index: int,
    count: int,
    text: np.ndarray,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    *,
    dim: int = 1,
    metadata: dict[str, Any] | None = None,
) -> PreparedDocument:
    """Number `index` of `count`: 1,024 random codes, random embeddings, four neighbours anywhere."""
    neighbours = rng.choice(count - 1, 4, replace=False).astype(np.int32)
    neighbours += neighbours >= index
    return PreparedDocument(
        id=f"{index:09d}",
        caption="a caption of about as many letters as captions have",
        text=text,
        image=rng.integers(0, vocabulary.image_size, 1024).astype(np.int32),
        text_embedding=rng.normal(size=dim).astype(np.float32),
        image_embedding=rng.normal(size=dim).astype(np.float32),
        neighbours_by_image=neighbours[:2],
        neighbours_by_text=neighbours[2:],
        scores_by_image=np.ones(2, np.float32),
        scores_by_text=np.ones(2, np.float32),
        metadata=metadata or {},
    )


def random_records(count: int, vocabulary: Vocabulary) -> Iterator[bytes]:
    """Encoded documents of the paper's size: captions of 5 to 60 tokens, CLIP's 512 dimensions."""
    rng, metadata = np.random.default_rng(0), {"url": "https://example.com/picture.jpg"}
    for index in range(count):
        text = random_text(vocabulary, int(rng.integers(5, 61)), rng)
        yield encode_document(random_document(index, count, text, vocabulary, rng, dim=512, metadata=metadata))


def write_documents(folder: pathlib.Path, vocabulary: Vocabulary, records: Iterable[bytes], count: int) -> None:
    """Prepared data of one shard with `count` encoded documents."""
    path = folder / shard_name("train", 0, 1)
    write_shard(path, records)
    manifest = {
        "format": FORMAT,
        "sources": [{"name": "simulated", "weight": None, "splits": {"train": [0, count]}}],
        "splits": {"train": {"documents": count, "shards": [describe_shard(path)]}},
        "vocabulary": dataclasses.asdict(vocabulary),
    }
    write_json(folder / MANIFEST_FILE, manifest)
