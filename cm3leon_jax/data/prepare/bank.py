"""The third stage of preparing: the memory bank over the split "train", its shards built side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cm3leon_jax.data.prepare.counting import report
from cm3leon_jax.data.prepare.duplicates import kept_documents
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.layout import Place
from cm3leon_jax.data.prepare.workers import for_each
from cm3leon_jax.retrieval.memory_bank import MemoryBank, build_shard
from cm3leon_jax.retrieval.memory_bank.manifest import BANK_FILE, shard_folder

BANK_FOLDER = "memory_bank"


class _Piece(NamedTuple):
    number: int
    places: list[Place]


def build_bank(job: Job, places: list[Place], options: Any) -> MemoryBank:
    """The bank of the documents at `places`, whose ids are their places in the split."""
    folder, encoder = job.path(BANK_FOLDER), job.models.retriever.fingerprint
    if not (folder / BANK_FILE).exists():
        pieces = _pieces([place for place in places if place.documents], job.settings.memory_bank.documents_per_shard)
        missing = [piece for piece in pieces if not (folder / shard_folder(piece.number)).exists()]
        total = sum(place.documents for place in places)
        left = sum(place.documents for piece in missing for place in piece.places)
        for_each(job, _build, missing, options, label="memory bank", unit="documents", total=total, done=total - left)
        MemoryBank.assemble(folder, encoder_fingerprint=encoder, config=job.settings.memory_bank)
    return MemoryBank.load(folder, encoder_fingerprint=encoder)


def _pieces(places: list[Place], size: int) -> list[_Piece]:
    """Consecutive parts of `size` documents or a little more; the last may have less."""
    pieces: list[list[Place]] = []
    room = 0
    for place in places:
        if room <= 0:
            pieces.append([])
            room = size
        pieces[-1].append(place)
        room -= place.documents
    return [_Piece(number, each) for number, each in enumerate(pieces)]


def _build(job: Job, piece: _Piece) -> None:
    config = job.settings.memory_bank
    each = -(-config.recall_queries // (2 * len(piece.places)))
    embeddings, queries = [], []
    for place in piece.places:
        part = kept_documents(job, place.source_shard, place.split)
        embeddings.append(part.embeddings)
        rows = np.unique(np.linspace(0, len(part), each, endpoint=False, dtype=int))[: len(part)]
        queries += [part.queries_by_image[rows], part.queries_by_text[rows]]
    vectors, asked = np.concatenate(embeddings), np.concatenate(queries)
    asked = asked[np.linspace(0, len(asked), min(len(asked), config.recall_queries), endpoint=False, dtype=int)]
    build_shard(
        vectors,
        piece.places[0].first + np.arange(len(vectors)),
        job.path(BANK_FOLDER, shard_folder(piece.number)),
        config=config,
        sample_queries=asked,  # recall for what it will be asked, by documents of all parts
    )
    report(len(vectors))
