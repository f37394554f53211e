"""Which documents are retrieved for a query (CM3Leon §2.1, after RA-CM3): relevance, modality, diversity.

Candidates come in two lists, found by the query's image and by its text, each in the order of relevance. They are taken
in turn, best first: one by image, one by text, one by image, … A candidate is passed over when

- it lacks a modality;
- it is the query itself, by id (or another with its image), or because its embedding is the same (an exact duplicate);
- it is too similar to the query to teach anything: as documents, where the query's is known; in a search by a text
  alone also by its score, with a threshold of its own; an image alone is compared with nothing;
- it is too similar to one already taken, from either list.
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
    # Largest allowed inner product of a document with the query's and with those taken. CM3Leon's is 0.9 (§2.1), for
    # CLIP ViT-B/32. None: the one that `cm3leon prepare` calibrates for the encoder (`similarity.py`).
    threshold: float | None = None
    # Largest allowed inner product with a query that is a text alone, as at inference. None: calibrated likewise.
    text_threshold: float | None = None
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
    struck: np.ndarray  # int32 [Q]: candidates that were too similar to the query, of both lists
    lost: np.ndarray  # bool [Q]: whether all of the nearest, as many as are wanted, were

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

    `query_ids` [Q] or [Q, n]: the queries' own document ids, and those of others with the same image (-1: none).
    `query_documents` [Q, D]: their document embeddings; a row of zeros has none. `complete_ids`: the documents that
    have both modalities; None: all do.
    """
    rules = _Rules(config, query_ids, query_documents, complete_ids)
    return _choose((by_image, by_text), rules, None)[0]


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
    found, chosen = _choose(lists, _Rules(config, query_ids, query_documents, complete_ids), journal)
    return found, journal.closed(chosen)


@dataclasses.dataclass(frozen=True)
class _Rules:
    config: SelectionConfig
    query_ids: np.ndarray | None
    query_documents: np.ndarray | None
    complete_ids: np.ndarray | None

    @property
    def threshold(self) -> float:
        """Between documents; without one, exact duplicates are still too similar."""
        return self.config.duplicate if self.config.threshold is None else self.config.threshold

    def against(self, which: int, lists: tuple[Candidates, Candidates]) -> Iterator[tuple[Reason, np.ndarray]]:
        """The rules that do not depend on what was taken, the last one by similarity: whom each one strikes among the
        candidates by image (0) or by text (1), bool [Q, K]."""
        candidates = lists[which]
        yield Reason.NOTHING, candidates.ids == NOTHING
        if self.query_ids is not None:
            own = self.query_ids[:, None] if self.query_ids.ndim == 1 else self.query_ids
            yield Reason.ITSELF, (candidates.ids[:, :, None] == own[:, None, :]).any(axis=2)
        if self.complete_ids is not None:
            yield Reason.LACKS_MODALITY, ~np.isin(candidates.ids, self.complete_ids)
        too_similar = np.isnan(candidates.scores)
        known = np.zeros((len(candidates.ids), 1), bool)
        if self.query_documents is not None:
            products = np.einsum("qkd,qd->qk", candidates.embeddings, self.query_documents)
            known = np.asarray(self.query_documents.any(axis=1, keepdims=True))
            yield Reason.SAME_EMBEDDING, known & ~(products < self.config.duplicate)
            too_similar |= known & ~(products <= np.float64(self.threshold))
        if which and self.config.text_threshold is not None:
            alone = ~known | (lists[0].ids == NOTHING).all(axis=1, keepdims=True)
            too_similar |= alone & ~(candidates.scores <= np.float64(self.config.text_threshold))
        yield Reason.TOO_SIMILAR_TO_QUERY, too_similar


def _choose(
    lists: tuple[Candidates, Candidates], rules: _Rules, journal: Journal | None
) -> tuple[Neighbours, list[np.ndarray]]:
    """What is taken, and its places in each list, int [Q, wanted]; -1 where none is left."""
    counts = (rules.config.by_image, rules.config.by_text)
    queries = len(lists[0].ids)
    allowed: list[np.ndarray] = []
    struck, has_near, keeps_near = np.zeros(queries, np.int32), np.zeros(queries, bool), np.zeros(queries, bool)
    for which, (one, count) in enumerate(zip(lists, counts, strict=True)):
        mask = before = np.ones(one.ids.shape, bool)
        for reason, strikes in rules.against(which, lists):
            before = mask
            mask = mask & ~strikes
            if journal:
                journal.note(which, strikes, reason)
        nearest = before & (before.cumsum(axis=1) <= count)
        has_near = has_near | nearest.any(axis=1)
        keeps_near = keeps_near | (nearest & mask).any(axis=1)
        struck += (before & ~mask).sum(axis=1, dtype=np.int32)
        allowed.append(mask)
    chosen = [np.full((queries, count), -1, np.int64) for count in counts]
    for turn in range(max(counts)):
        for which in (0, 1):
            if turn < chosen[which].shape[1]:
                chosen[which][:, turn] = _take_first(which, lists, allowed, rules.threshold, journal)
    return _gathered(lists, chosen, struck, has_near & ~keeps_near), chosen


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


def _gathered(
    lists: tuple[Candidates, Candidates], chosen: list[np.ndarray], struck: np.ndarray, lost: np.ndarray
) -> Neighbours:
    (image_ids, image_scores), (text_ids, text_scores) = (
        _gather(one, places) for one, places in zip(lists, chosen, strict=True)
    )
    return Neighbours(image_ids, image_scores, text_ids, text_scores, struck, lost)


def _gather(candidates: Candidates, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ids = np.take_along_axis(candidates.ids, np.maximum(places, 0), axis=1)
    scores = np.take_along_axis(candidates.scores, np.maximum(places, 0), axis=1)
    return np.where(places >= 0, ids, NOTHING).astype(np.int32), np.where(places >= 0, scores, -np.inf)
