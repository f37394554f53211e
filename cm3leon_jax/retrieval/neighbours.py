"""Search and selection for a whole data set: the neighbours that are computed ahead and stored with each document."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from cm3leon_jax.retrieval.memory_bank import NOTHING
from cm3leon_jax.retrieval.selection import Candidates, Neighbours, SelectionConfig, explain, select
from cm3leon_jax.retrieval.verdicts import Verdicts
from cm3leon_jax.runtime.errors import UserError

_FIELDS = [field.name for field in dataclasses.fields(Neighbours)]
_Found = tuple[np.ndarray, np.ndarray]  # ids [Q, K] and scores of one list


class Bank(Protocol):
    """What of a `MemoryBank` is used."""

    @property
    def count(self) -> int: ...

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
    Other arguments as for `select`. The bank is searched once for each depth, by all queries together; the embeddings
    of what they found are held for `chunk` queries at a time, for fewer where the search is deeper.
    """
    config = config or SelectionConfig()
    queries = _queries(image_queries, text_queries, query_ids, query_documents)
    first, *deeper_ones = _depths(config, bank.count)
    result = _search_and_select(bank, queries, first, config, complete_ids, chunk)
    for depth in deeper_ones:
        short = np.flatnonzero(_may_gain(result, queries))
        if not short.size:
            break
        deeper = _search_and_select(bank, queries.rows(short), depth, config, complete_ids, chunk)
        for name in _FIELDS:
            getattr(result, name)[short] = getattr(deeper, name)
    return result


@dataclasses.dataclass(frozen=True)
class Explained:
    """One query's search, at the depth that it was looked at to: lists by image and by text, with K candidates each."""

    neighbours: Neighbours  # what `neighbours_of` finds; Q = 1
    candidates: tuple[Candidates, Candidates]  # Q = 1
    verdicts: tuple[Verdicts, Verdicts]  # Q = 1


def explained_neighbours_of(
    bank: Bank,
    *,
    image_queries: np.ndarray | None = None,
    text_queries: np.ndarray | None = None,
    config: SelectionConfig | None = None,
    query_ids: np.ndarray | None = None,
    query_documents: np.ndarray | None = None,
    complete_ids: np.ndarray | None = None,
) -> list[Explained]:
    """As `neighbours_of`, query by query, with what became of every candidate: for people, not for speed."""
    config = config or SelectionConfig()
    queries = _queries(image_queries, text_queries, query_ids, query_documents)
    found = []
    for row in range(len(queries.ids)):
        one = queries.rows(slice(row, row + 1))
        for depth in _depths(config, bank.count):
            lists = _search(bank, (one.image, one.text), depth)
            by_image, by_text = (_candidates(bank, each, slice(None)) for each in lists)
            neighbours, verdicts = explain(
                by_image,
                by_text,
                config,
                query_ids=one.ids,
                query_documents=one.documents,
                complete_ids=complete_ids,
            )
            if not _may_gain(neighbours, one).any():
                break
        found.append(Explained(neighbours, (by_image, by_text), verdicts))
    return found


def _depths(config: SelectionConfig, count: int) -> Iterator[int]:
    """How many candidates are looked at, first and whenever a query still lacks documents, in a bank of `count`."""
    depth, deepest = min(config.candidates, max(count, 1)), min(config.max_candidates, max(count, 1))
    yield depth
    while depth < deepest:
        depth = min(2 * depth, deepest)
        yield depth


@dataclasses.dataclass(frozen=True)
class _Queries:
    image: np.ndarray  # [Q, D]
    text: np.ndarray  # [Q, D]
    ids: np.ndarray  # [Q] or [Q, n]
    documents: np.ndarray  # [Q, D]

    def rows(self, which: slice | np.ndarray) -> _Queries:
        return _Queries(self.image[which], self.text[which], self.ids[which], self.documents[which])


def _queries(
    image: np.ndarray | None, text: np.ndarray | None, ids: np.ndarray | None, documents: np.ndarray | None
) -> _Queries:
    given = image if image is not None else text
    if given is None:
        raise UserError("a selection needs queries, by image or by text")
    nothing = np.zeros_like(given)
    return _Queries(
        nothing if image is None else image,
        nothing if text is None else text,
        np.full(len(given), NOTHING) if ids is None else ids,
        nothing if documents is None else documents,
    )


def _may_gain(result: Neighbours, queries: _Queries) -> np.ndarray:
    """Queries that lack documents in a list that there is something to search by: bool [Q]."""
    by_image = (result.by_image == NOTHING).any(axis=1) & queries.image.any(axis=1)
    by_text = (result.by_text == NOTHING).any(axis=1) & queries.text.any(axis=1)
    return by_image | by_text


def _search_and_select(
    bank: Bank,
    queries: _Queries,
    depth: int,
    config: SelectionConfig,
    complete_ids: np.ndarray | None,
    chunk: int,
) -> Neighbours:
    by_image, by_text = _search(bank, (queries.image, queries.text), depth)
    step = max(1, chunk * min(config.candidates, depth) // depth)
    parts = []
    for start in range(0, max(len(queries.ids), 1), step):
        rows = slice(start, start + step)
        each = queries.rows(rows)
        parts.append(
            select(
                _candidates(bank, by_image, rows),
                _candidates(bank, by_text, rows),
                config,
                query_ids=each.ids,
                query_documents=each.documents,
                complete_ids=complete_ids,
            )
        )
    return Neighbours(*(np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS))


def _search(bank: Bank, lists: tuple[np.ndarray, np.ndarray], depth: int) -> list[_Found]:
    """Searches by both lists' queries [Q, D] at once -> ids [Q, depth] and scores of each; none for absent queries."""
    queries = np.concatenate(lists)
    present = queries.any(axis=1)
    ids = np.full((len(queries), depth), NOTHING, np.int32)
    scores = np.full((len(queries), depth), -np.inf, np.float32)
    if present.any():
        ids[present], scores[present] = bank.search(queries[present], depth)
    return list(zip(np.split(ids, 2), np.split(scores, 2), strict=True))


def _candidates(bank: Bank, found: _Found, rows: slice) -> Candidates:
    ids, scores = found[0][rows], found[1][rows]
    return Candidates(ids, scores, bank.embeddings_of(ids))
