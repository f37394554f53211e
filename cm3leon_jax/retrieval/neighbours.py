"""Search and selection for a whole data set: the neighbours that are computed ahead and stored with each document."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from cm3leon_jax.retrieval.memory_bank import NOTHING
from cm3leon_jax.retrieval.selection import Candidates, Neighbours, SelectionConfig, select
from cm3leon_jax.runtime.errors import UserError


class Bank(Protocol):
    """What of a `MemoryBank` is used."""

    count: int

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]: ...

    def embeddings_of(self, ids: np.ndarray) -> np.ndarray: ...


def neighbours_of(
    bank: Bank,
    *,
    image_queries: np.ndarray | None = None,
    text_queries: np.ndarray | None = None,
    config: SelectionConfig | None = None,
    query_ids: np.ndarray | None = None,
    query_documents: np.ndarray | None = None,
    complete_ids: np.ndarray | None = None,
    chunk: int = 1024,
) -> Neighbours:
    """Searches `bank` for Q queries and selects. Queries that lack documents are searched again, twice as deep.

    `image_queries`, `text_queries` [Q, D]: embeddings of the queries' parts (for training with query dropout: see
    `Retriever.embed_texts`, `embed_images`); None or a row of zeros: there is no such part, and nothing is found by it.
    Other arguments as for `select`. `chunk` queries are held in memory at a time.
    """
    config = config or SelectionConfig()
    given = image_queries if image_queries is not None else text_queries
    if given is None:
        raise UserError("a selection needs queries, by image or by text")
    nothing = np.zeros_like(given)
    queries = _Queries(
        nothing if image_queries is None else image_queries,
        nothing if text_queries is None else text_queries,
        np.full(len(given), NOTHING) if query_ids is None else query_ids,
        nothing if query_documents is None else query_documents,
    )
    parts = [
        _neighbours_of_chunk(bank, queries.rows(slice(start, start + chunk)), config, complete_ids)
        for start in range(0, max(len(given), 1), chunk)
    ]
    fields = [field.name for field in dataclasses.fields(Neighbours)]
    return Neighbours(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


@dataclasses.dataclass(frozen=True)
class _Queries:
    image: np.ndarray  # [Q, D]
    text: np.ndarray  # [Q, D]
    ids: np.ndarray  # [Q]
    documents: np.ndarray  # [Q, D]

    def rows(self, which: slice | np.ndarray) -> _Queries:
        return _Queries(self.image[which], self.text[which], self.ids[which], self.documents[which])


def _neighbours_of_chunk(
    bank: Bank, queries: _Queries, config: SelectionConfig, complete_ids: np.ndarray | None
) -> Neighbours:
    depth = min(config.candidates, bank.count)
    deepest = min(config.max_candidates, bank.count)
    result = _search_and_select(bank, queries, depth, config, complete_ids)
    while depth < deepest and (short := np.flatnonzero(_may_gain(result, queries))).size:
        depth = min(2 * depth, deepest)
        deeper = _search_and_select(bank, queries.rows(short), depth, config, complete_ids)
        for field in dataclasses.fields(Neighbours):
            getattr(result, field.name)[short] = getattr(deeper, field.name)
    return result


def _may_gain(result: Neighbours, queries: _Queries) -> np.ndarray:
    """Queries that lack documents in a list that there is something to search by: bool [Q]."""
    by_image = (result.by_image == NOTHING).any(axis=1) & queries.image.any(axis=1)
    by_text = (result.by_text == NOTHING).any(axis=1) & queries.text.any(axis=1)
    return by_image | by_text


def _search_and_select(
    bank: Bank, queries: _Queries, depth: int, config: SelectionConfig, complete_ids: np.ndarray | None
) -> Neighbours:
    return select(
        _candidates(bank, queries.image, depth),
        _candidates(bank, queries.text, depth),
        config,
        query_ids=queries.ids,
        query_documents=queries.documents,
        complete_ids=complete_ids,
    )


def _candidates(bank: Bank, queries: np.ndarray, depth: int) -> Candidates:
    ids, scores = bank.search(queries, depth)
    absent = ~queries.any(axis=1)
    ids[absent], scores[absent] = NOTHING, -np.inf
    return Candidates(ids, scores, bank.embeddings_of(ids))
