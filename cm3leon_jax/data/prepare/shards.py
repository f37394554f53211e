"""The last stage of preparing: each part becomes a shard, its documents with their neighbours."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cm3leon_jax.data.prepare.bank import BANK_FOLDER
from cm3leon_jax.data.prepare.calibrating import similarity_of
from cm3leon_jax.data.prepare.counting import report
from cm3leon_jax.data.prepare.duplicates import kept_documents, same_images
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.layout import Place
from cm3leon_jax.data.prepare.parts import Documents
from cm3leon_jax.data.prepare.workers import for_each
from cm3leon_jax.data.records import decode_document, encode_document
from cm3leon_jax.data.shards import BANK_SPLIT, describe_shard, write_shard
from cm3leon_jax.data.splits import SPLITS
from cm3leon_jax.retrieval.memory_bank import NOTHING, MemoryBank
from cm3leon_jax.retrieval.neighbours import neighbours_of
from cm3leon_jax.retrieval.selection import Neighbours, SelectionConfig
from cm3leon_jax.runtime.files import read_json, write_json


def write_shards(job: Job, places: list[Place], options: Any) -> dict[str, dict[str, Any]]:
    """Writes a shard for each place -> of each file what the manifest says of it ("shard"), and how many candidates its
    searches struck as too similar and how many documents lost all of their nearest by that ("searched"). Those that are
    there already are kept."""
    missing = [place for place in places if not job.path("shards", f"{place.file}.json").exists()]
    together = job.settings.prepare.shards_per_search
    for_each(
        job,
        _write,
        [missing[start : start + together] for start in range(0, len(missing), together)],
        options,
        label="neighbours",
        unit="documents",
        total=sum(place.documents for place in places),
        done=sum(place.documents for place in places) - sum(place.documents for place in missing),
    )
    return {
        place.file: read_json(job.path("shards", f"{place.file}.json"), what="description", make_with="cm3leon prepare")
        for place in places
    }


def _write(job: Job, places: list[Place]) -> None:
    """Searches for the documents of all `places` at once, so that a large bank is gone through once."""
    for split in sorted({place.split for place in places}):
        of_split = [place for place in places if place.split == split]
        parts = [kept_documents(job, place.source_shard, split) for place in of_split]
        same = [same_images(job, place.source_shard, split) for place in of_split]
        same_ids = [_padded(each, len(part)) for each, part in zip(same, parts, strict=True)]
        found = _search(job, Documents.join(parts), of_split, _stacked(same_ids))
        ends = np.cumsum([len(part) for part in parts])[:-1]
        columns = [np.split(getattr(found, field.name), ends) for field in dataclasses.fields(Neighbours)]
        for place, part, ids, *neighbours in zip(of_split, parts, same_ids, *columns, strict=True):
            path = job.path(place.file)
            of_part = Neighbours(*neighbours)
            write_shard(path, _records(part, of_part, ids))
            searched = {"struck": int(of_part.struck.sum()), "lost": int(of_part.lost.sum())}
            write_json(job.path("shards", f"{place.file}.json"), {"shard": describe_shard(path), "searched": searched})


def _padded(pairs: np.ndarray, rows: int) -> np.ndarray:
    """Pairs of a row and an id, ascending -> ids [rows, n], -1 where a row has fewer."""
    counts = np.bincount(pairs[:, 0], minlength=rows) if len(pairs) else np.zeros(rows, np.int64)
    found = np.full((rows, counts.max(initial=0)), NOTHING, np.int32)
    found[np.arange(found.shape[1]) < counts[:, None]] = pairs[:, 1]
    return found


def _stacked(ids: Sequence[np.ndarray]) -> np.ndarray:
    """Ids [rows, n] of several parts as one."""
    width = max(each.shape[1] for each in ids)
    return np.concatenate([np.pad(each, ((0, 0), (0, width - each.shape[1])), constant_values=NOTHING) for each in ids])


def _search(job: Job, part: Documents, places: Sequence[Place], same_ids: np.ndarray) -> Neighbours:
    report(len(part))
    if places[0].split not in SPLITS or not job.models.retriever.dim:  # documents that are no pairs stand alone
        return _nothing_found(len(part))
    config, bank = similarity_of(job).settle(job.settings.selection), _bank(job)
    if places[0].split != BANK_SPLIT:
        return _held_out_neighbours(part, bank, config, same_ids)
    own = np.concatenate([place.first + np.arange(place.documents) for place in places])
    return neighbours_of(
        bank,
        image_queries=part.queries_by_image,
        text_queries=part.queries_by_text,
        config=config,
        query_ids=np.concatenate([own[:, None], same_ids], axis=1),
        query_documents=part.embeddings,
    )


def _bank(job: Job) -> MemoryBank:
    limit = int(job.settings.prepare.bank_memory_gib * 2**30) or None
    return _load_bank(str(job.path(BANK_FOLDER)), job.inputs, job.models.retriever.fingerprint, limit)


@functools.lru_cache(maxsize=1)
def _load_bank(folder: str, inputs: str, encoder: str, memory_limit: int | None) -> MemoryBank:
    """Kept from one piece of work to the next; another bank in the same folder has other inputs."""
    del inputs
    return MemoryBank.load(folder, encoder_fingerprint=encoder, memory_limit=memory_limit)


def _records(part: Documents, found: Neighbours, same_ids: np.ndarray) -> Iterator[bytes]:
    for row, record in enumerate(part.records):
        by_image, by_text = found.by_image[row] != NOTHING, found.by_text[row] != NOTHING
        document = dataclasses.replace(
            decode_document(record),
            neighbours_by_image=found.by_image[row][by_image],
            neighbours_by_text=found.by_text[row][by_text],
            scores_by_image=found.by_image_scores[row][by_image],
            scores_by_text=found.by_text_scores[row][by_text],
            same_image=same_ids[row][same_ids[row] != NOTHING],
        )
        yield encode_document(document)


def _nothing_found(queries: int) -> Neighbours:
    nothing, none = np.zeros((queries, 0)), np.zeros(queries, np.int32)
    return Neighbours(nothing, nothing, nothing, nothing, none, none.astype(bool))


def _held_out_neighbours(
    part: Documents, bank: MemoryBank, config: SelectionConfig, same_ids: np.ndarray
) -> Neighbours:
    """Two lists that do not know of each other: whoever has only the caption finds just `by_text`, but for what is too
    similar to the document itself."""
    found = _nothing_found(len(part))
    search = functools.partial(neighbours_of, bank, query_ids=same_ids, query_documents=part.embeddings)
    if config.by_image:
        only = search(image_queries=part.queries_by_image, config=dataclasses.replace(config, by_text=0))
        found = dataclasses.replace(found, by_image=only.by_image, by_image_scores=only.by_image_scores)
    if config.by_text:
        only = search(text_queries=part.queries_by_text, config=dataclasses.replace(config, by_image=0))
        found = dataclasses.replace(found, by_text=only.by_text, by_text_scores=only.by_text_scores)
    return found
