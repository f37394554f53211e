"""Which documents are retrieved for a query (CM3Leon §2.1, after RA-CM3): relevance, modality, diversity.

Candidates come in two lists, found by the query's image and by its text, each in the order of relevance. They are taken
in turn, best first: one by image, one by text, one by image, … A candidate is passed over when

- it lacks a modality;
- it is the query itself, by id or because its embedding is the same (an exact duplicate);
- its score to the query, by which it was found, is over the threshold: too similar to teach anything;
- it is over the threshold to one already taken, from either list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from cm3leon_jax.retrieval.memory_bank import NOTHING
from cm3leon_jax.retrieval.verdicts import Journal, Reason, Verdicts
from cm3leon_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class SelectionConfig:
    by_image: int = 2  # documents wanted from the search by image
    by_text: int = 2  # documents wanted from the search by text
    threshold: float = 0.9  # largest allowed inner product with the query and with those taken (CM3Leon §2.1)
    duplicate: float = 0.9999  # from this inner product of document embeddings on, a candidate is the query again
    candidates: int = 32  # looked at first in each list; doubled for queries that still lack documents …
    max_candidates: int = 1024  # … up to this many

    def __post_init__(self) -> None:
        if min(self.by_image, self.by_text) < 0 or self.by_image + self.by_text == 0:
            raise UserError("a selection wants at least one document, by image or by text")
        if not 1 <= self.candidates <= self.max_candidates:
            raise UserError(f"candidates = {self.candidates}; use a number from 1 to max_candidates")


@dataclasses.dataclass(frozen=True)
class Candidates:
    """One list of candidates for each of Q queries, best first."""

    ids: np.ndarray  # int32 [Q, K]; -1: none
    scores: np.ndarray  # float32 [Q, K], inner product of the query with the document
    embeddings: np.ndarray  # float32 [Q, K, D], of the documents


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """What was chosen for each of Q queries, in the order of relevance; -1 and -inf where the rules left too few."""

    by_image: np.ndarray  # int32 [Q, by_image]
    by_image_scores: np.ndarray  # float32
    by_text: np.ndarray  # int32 [Q, by_text]
    by_text_scores: np.ndarray  # float32

    @property
    def counts(self) -> np.ndarray:
        """How many documents each query got, int [Q]."""
        return (self.by_image != NOTHING).sum(axis=1) + (self.by_text != NOTHING).sum(axis=1)

    @property
    def short(self) -> np.ndarray:
        """True for queries that got fewer documents than wanted, bool [Q]."""
        return self.counts < self.by_image.shape[1] + self.by_text.shape[1]


def select(
    by_image: Candidates,
    by_text: Candidates,
    config: SelectionConfig,
    *,
    query_ids: np.ndarray | None = None,
    query_documents: np.ndarray | None = None,
    complete_ids: np.ndarray | None = None,
) -> Neighbours:
    """Chooses for Q queries at once among their candidates.

    `query_ids` [Q]: the queries' own document ids, where they have one (-1: none). `query_documents` [Q, D]: their
    document embeddings, for finding exact duplicates; a row of zeros has none. `complete_ids`: the documents that have
    both modalities; None: all do.
    """
    rules = _Rules(config, query_ids, query_documents, complete_ids)
    return _gathered((by_image, by_text), _choose((by_image, by_text), rules, None))


def explain(
    by_image: Candidates,
    by_text: Candidates,
    config: SelectionConfig,
    *,
    query_ids: np.ndarray | None = None,
    query_documents: np.ndarray | None = None,
    complete_ids: np.ndarray | None = None,
) -> tuple[Neighbours, tuple[Verdicts, Verdicts]]:
    """What `select` chooses, and what became of each candidate by image and by text. Arguments as for `select`."""
    lists = (by_image, by_text)
    journal = Journal([one.ids.shape for one in lists])
    chosen = _choose(lists, _Rules(config, query_ids, query_documents, complete_ids), journal)
    return _gathered(lists, chosen), journal.closed(chosen)


@dataclasses.dataclass(frozen=True)
class _Rules:
    config: SelectionConfig
    query_ids: np.ndarray | None
    query_documents: np.ndarray | None
    complete_ids: np.ndarray | None

    def against(self, candidates: Candidates) -> Iterator[tuple[Reason, np.ndarray]]:
        """The rules that do not depend on what was taken: whom each one strikes, bool [Q, K]."""
        yield Reason.NOTHING, candidates.ids == NOTHING
        if self.query_ids is not None:
            yield Reason.ITSELF, candidates.ids == np.asarray(self.query_ids)[:, None]
        if self.complete_ids is not None:
            yield Reason.LACKS_MODALITY, ~np.isin(candidates.ids, self.complete_ids)
        if self.query_documents is not None:
            products = np.einsum("qkd,qd->qk", candidates.embeddings, self.query_documents)
            yield Reason.SAME_EMBEDDING, ~(products < self.config.duplicate)
        yield Reason.TOO_SIMILAR_TO_QUERY, ~(candidates.scores <= self.config.threshold)


def _choose(lists: tuple[Candidates, Candidates], rules: _Rules, journal: Journal | None) -> list[np.ndarray]:
    """The places of what is taken of each list, int [Q, wanted]; -1 where none is left."""
    config = rules.config
    allowed = []
    for which, one in enumerate(lists):
        mask = np.ones(one.ids.shape, bool)
        for reason, struck in rules.against(one):
            mask &= ~struck
            if journal:
                journal.note(which, struck, reason)
        allowed.append(mask)
    chosen = [np.full((len(lists[0].ids), count), -1, np.int64) for count in (config.by_image, config.by_text)]
    for turn in range(max(config.by_image, config.by_text)):
        for which in (0, 1):
            if turn < chosen[which].shape[1]:
                chosen[which][:, turn] = _take_first(which, lists, allowed, config.threshold, journal)
    return chosen


def _take_first(
    which: int,
    lists: tuple[Candidates, Candidates],
    allowed: list[np.ndarray],
    threshold: float,
    journal: Journal | None,
) -> np.ndarray:
    """Takes each query's first allowed candidate of one list (place [Q]; -1: none is left), and forbids, in both
    lists, that document and all that are too similar to it."""
    taken = lists[which]
    queries = np.arange(len(taken.ids))
    first = allowed[which].argmax(axis=1)
    found = allowed[which][queries, first]
    place = np.where(found, first, -1)
    taken_ids = np.where(found, taken.ids[queries, place], NOTHING)
    taken_embeddings = taken.embeddings[queries, place]
    for number, (one, mask) in enumerate(zip(lists, allowed, strict=True)):
        products = np.einsum("qkd,qd->qk", one.embeddings, taken_embeddings)
        same = found[:, None] & (one.ids == taken_ids[:, None])
        similar = found[:, None] & (products > threshold)
        mask &= ~(similar | same)
        if journal:
            journal.note(number, same, Reason.TAKEN_ALREADY)
            journal.note_similar(number, similar, taken_ids, products)
    return place


def _gathered(lists: tuple[Candidates, Candidates], chosen: list[np.ndarray]) -> Neighbours:
    (image_ids, image_scores), (text_ids, text_scores) = (
        _gather(one, places) for one, places in zip(lists, chosen, strict=True)
    )
    return Neighbours(image_ids, image_scores, text_ids, text_scores)


def _gather(candidates: Candidates, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ids = np.take_along_axis(candidates.ids, np.maximum(places, 0), axis=1)
    scores = np.take_along_axis(candidates.scores, np.maximum(places, 0), axis=1)
    return np.where(places >= 0, ids, NOTHING).astype(np.int32), np.where(places >= 0, scores, -np.inf)
