"""A memory bank: its shards, and the nearest documents of some."""

from __future__ import annotations

import numpy as np

from cm3leon_jax.data.inspection.images import DecodedImages
from cm3leon_jax.data.shards import PreparedSplit
from cm3leon_jax.pages.pieces import cards, picture, section, table, text
from cm3leon_jax.retrieval.memory_bank import NOTHING, MemoryBank
from cm3leon_jax.runtime.errors import UserError

_NEAREST = 7  # as many as stand in a row of a wide page
_THUMBNAIL = 128  # pixels a side


def shards_section(bank: MemoryBank) -> str:
    rows = []
    for live in bank.shards:
        shard, config = live.shard, live.shard.config
        searched = {
            "brute_force": "all vectors",
            "hashing": f"{config.rescored:,} rescored",
            "tree": f"{config.leaves_searched:,} of {config.num_leaves:,} leaves, {config.rescored:,} rescored",
        }[shard.kind]
        removed = shard.count - live.count
        megabytes = f"{shard.nbytes / 2**20:,.1f} MiB"
        row = (shard.directory.name, f"{live.count:,}", f"{removed:,}", shard.kind, searched)
        rows.append((*row, f"{shard.recall_at_10:.3f}", megabytes))
    head = ("shard", "documents", "removed", "index", "searched", "recall at 10", "in memory")
    lead = (
        "Recall at 10 is the share of the ten nearest documents that the index finds, as measured when the shard was "
        "built. What a shard takes in memory is the size of its index, its vectors included."
    )
    return section("shards", "Shards", lead, table(head, rows, caption="Shards of the memory bank"))


def chosen_ids(bank: MemoryBank, ids: list[str], *, count: int, seed: int) -> np.ndarray:
    """Ids of documents of the bank, int32 [n]: those given, or `count` at random. `UserError` naming the nearest."""
    known = bank.ids
    if not ids:
        return np.sort(np.random.default_rng(seed).permutation(known)[:count])
    for id in ids:
        if not id.isdecimal() or int(id) not in known:
            near = known[np.abs(known.astype(np.int64) - int(id)).argsort()[:1]] if id.isdecimal() else known[:0]
            hint = f" (the nearest is {near[0]})" if near.size else "; the ids of a bank alone are numbers"
            raise UserError(f"the memory bank in {bank.directory} has no document {id!r}{hint}")
    return np.array([int(id) for id in ids], np.int32)


def nearest_section(bank: MemoryBank, ids: np.ndarray, documents: PreparedSplit | None, images: DecodedImages) -> str:
    """The nearest of each document of the bank. `documents`: what its ids are places of; None: only ids are known."""
    found, scores = bank.search(bank.embeddings_of(ids), _NEAREST + 1)
    if documents is not None:
        images.add(documents[index] for index in {*ids.tolist(), *found[found != NOTHING].tolist()})
    articles = []
    for own, row, row_scores in zip(ids.tolist(), found.tolist(), scores.tolist(), strict=True):
        others = [(index, score) for index, score in zip(row, row_scores, strict=True) if index not in (own, NOTHING)]
        shots = "".join(_shot(index, f" · {score:.3f}", documents, images) for index, score in others[:_NEAREST])
        shots = f'<ul class="shots">{shots}</ul>' if shots else '<p class="note">nothing else is in the bank</p>'
        articles.append(
            f'<article class="card nearest"><ul class="shots">{_shot(own, "", documents, images)}</ul>'
            f"<div><h4>nearest</h4>{shots}</div></article>"
        )
    lead = (
        "For some documents, the nearest others by the embedding in the bank (of text and image together), with "
        "their inner products. No rules of selection are applied here."
    )
    return section("nearest", "Nearest documents", lead, cards(articles))


def _shot(index: int, score: str, documents: PreparedSplit | None, images: DecodedImages) -> str:
    if documents is None:
        return f"<li><p>document {index}{text(score)}</p></li>"
    document = documents[index]
    image = picture(images.of(document.image), "document", largest=_THUMBNAIL)
    return f"<li>{image}<p>{text(document.caption)}</p><p>{text(document.id)}{text(score)}</p></li>"
