"""The later stages of preparing: the memory bank over the train split, and shards with each document's neighbours."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from cm3leon_jax.data.prepare.parts import Part
from cm3leon_jax.data.records import decode_document, encode_document
from cm3leon_jax.data.shards import BANK_SPLIT, shard_name, write_shard
from cm3leon_jax.retrieval.memory_bank import NOTHING, MemoryBank, MemoryBankConfig
from cm3leon_jax.retrieval.neighbours import neighbours_of
from cm3leon_jax.retrieval.selection import Neighbours, SelectionConfig
from cm3leon_jax.runtime.progress import progress

Parts = dict[str, list[pathlib.Path]]  # the files of each split
Keep = dict[str, list[np.ndarray]]  # of each of them: bool [n], which documents are kept


def build_bank(
    parts: Parts, keep: Keep, directory: pathlib.Path, encoder_fingerprint: str, config: MemoryBankConfig
) -> MemoryBank:
    """The memory bank of the kept documents of the split "train"; its ids are their places in the split."""
    if directory.exists():  # of a run that was killed later
        return MemoryBank.load(directory, encoder_fingerprint=encoder_fingerprint)
    embeddings, queries = [], []
    each = -(-config.recall_queries // (2 * len(parts[BANK_SPLIT])))
    for path, mask in zip(parts[BANK_SPLIT], keep[BANK_SPLIT], strict=True):
        part = Part.read(path)
        embeddings.append(part.embeddings[mask])
        rows = np.unique(np.linspace(0, len(mask), each, endpoint=False, dtype=int))[: len(mask)]
        queries += [part.queries_by_image[rows], part.queries_by_text[rows]]
    vectors = np.concatenate(embeddings)
    return MemoryBank.build(
        vectors,
        np.arange(len(vectors)),
        directory,
        encoder_fingerprint=encoder_fingerprint,
        config=config,
        sample_queries=np.concatenate(queries),  # recall for what it will be asked
    )


def write_shards(parts: Parts, keep: Keep, bank: MemoryBank, directory: pathlib.Path, config: SelectionConfig) -> Parts:
    """Writes a shard for each part -> the shards of each split. Those that are there already are kept."""
    shards = {
        split: [directory / shard_name(split, number, len(paths)) for number in range(len(paths))]
        for split, paths in parts.items()
    }
    total = sum(int(mask.sum()) for masks in keep.values() for mask in masks)
    with progress(label="neighbours", total=total, unit="documents") as bar:
        for split, paths in parts.items():
            first = 0
            for path, mask, shard in zip(paths, keep[split], shards[split], strict=True):
                if not shard.exists():
                    write_shard(shard, _records(Part.read(path).take(mask), split, first, bank, config))
                first += int(mask.sum())
                bar.update(int(mask.sum()))
    return shards


def _records(part: Part, split: str, first: int, bank: MemoryBank, config: SelectionConfig) -> Iterator[bytes]:
    """The documents of a part with their neighbours; the part's first is number `first` of its split."""
    if not part.records:
        return
    if split == BANK_SPLIT:
        found = neighbours_of(
            bank,
            image_queries=part.queries_by_image,
            text_queries=part.queries_by_text,
            config=config,
            query_ids=first + np.arange(len(part.records)),
            query_documents=part.embeddings,
        )
    else:
        found = _held_out_neighbours(part, bank, config)
    for row, record in enumerate(part.records):
        by_image, by_text = found.by_image[row] != NOTHING, found.by_text[row] != NOTHING
        document = dataclasses.replace(
            decode_document(record),
            neighbours_by_image=found.by_image[row][by_image],
            neighbours_by_text=found.by_text[row][by_text],
            scores_by_image=found.by_image_scores[row][by_image],
            scores_by_text=found.by_text_scores[row][by_text],
        )
        yield encode_document(document)


def _held_out_neighbours(part: Part, bank: MemoryBank, config: SelectionConfig) -> Neighbours:
    """Two lists that do not know of each other: whoever has only the caption finds just `by_text`."""
    nothing = np.zeros((len(part.records), 0))
    found = Neighbours(nothing, nothing, nothing, nothing)
    if config.by_image:
        only = neighbours_of(bank, image_queries=part.queries_by_image, config=dataclasses.replace(config, by_text=0))
        found = dataclasses.replace(found, by_image=only.by_image, by_image_scores=only.by_image_scores)
    if config.by_text:
        only = neighbours_of(bank, text_queries=part.queries_by_text, config=dataclasses.replace(config, by_image=0))
        found = dataclasses.replace(found, by_text=only.by_text, by_text_scores=only.by_text_scores)
    return found
