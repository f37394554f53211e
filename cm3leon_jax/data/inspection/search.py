"""The search for a document's neighbours, done again: each candidate in its order, and what became of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from cm3leon_jax.data.inspection.choosing import Shown
from cm3leon_jax.data.shards import BANK_SPLIT, PreparedData
from cm3leon_jax.data.splits import SPLITS
from cm3leon_jax.retrieval.clip.retriever import Retriever
from cm3leon_jax.retrieval.memory_bank import MemoryBank
from cm3leon_jax.retrieval.neighbours import Explained, explained_neighbours_of
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.retrieval.verdicts import Reason

_PASSED_OVER = {
    Reason.ITSELF: "the document itself, or its image again",
    Reason.LACKS_MODALITY: "without a text or an image",
    Reason.SAME_EMBEDDING: "the same embedding as the document, an exact duplicate",
    Reason.TOO_SIMILAR_TO_QUERY: "too similar to the document",
    Reason.TOO_SIMILAR_TO_TAKEN: "too similar to one taken",
    Reason.TAKEN_ALREADY: "taken by the other list",
}


class Candidate(NamedTuple):
    place: int  # in the split "train"
    score: float  # by which it was found
    reason: Reason
    other: int  # the place of the one taken that it is too similar to; -1
    similarity: float  # to that one

    @property
    def words(self) -> str:
        """What became of it."""
        if self.reason == Reason.TAKEN:
            return "taken"
        return _PASSED_OVER.get(self.reason, "not looked at: enough were taken")


@dataclasses.dataclass(frozen=True)
class Search:
    """The candidates by image and by text, best first."""

    by_image: list[Candidate]
    by_text: list[Candidate]


def searches(data: PreparedData, shown: list[Shown]) -> list[Search] | None:
    """The search of each document, with the embeddings that are stored. None where there is nothing to search, or
    nothing that is searched for: documents that are no pairs stand alone. `UserError`: the bank is damaged, or was
    made by another version."""
    if not shown or shown[0].split not in SPLITS or data.manifest["memory_bank"] is None:
        return None
    if not data.memory_bank_directory.is_dir():
        return None
    encoder = data.manifest["fingerprints"]["retriever"]
    bank = MemoryBank.load(data.memory_bank_directory, encoder_fingerprint=encoder)
    return [_search(bank, data.selection, each) for each in shown]


def summary(candidates: list[Candidate]) -> str:
    """How many were taken, and how many passed over for each reason."""
    counts = Counter(candidate.reason for candidate in candidates)
    looked_at = len(candidates) - counts.pop(Reason.ENOUGH, 0)
    taken = counts.pop(Reason.TAKEN, 0)
    passed = ", ".join(f"{_PASSED_OVER[reason]} ({count})" for reason, count in sorted(counts.items()))
    return f"{looked_at} looked at, {taken} taken{f'; passed over: {passed}' if passed else ''}"


def _search(bank: MemoryBank, config: SelectionConfig, shown: Shown) -> Search:
    by_image = {"image_queries": shown.document.image_embedding[None]}
    by_text = {"text_queries": shown.document.text_embedding[None]}
    known: dict[str, Any] = {"query_ids": shown.document.same_image[None]}
    if shown.split == BANK_SPLIT:
        own = np.array([[shown.place]])
        known["query_ids"] = np.concatenate([own, known["query_ids"]], axis=1)
        known["query_documents"] = bank.embeddings_of(own[0])
        found = explained_neighbours_of(bank, **by_image, **by_text, **known, config=config)[0]
        return Search(_candidates(found, 0), _candidates(found, 1))
    # As in preparing: held-out documents have two lists that do not know of each other.
    lists: list[list[Candidate]] = []
    known["query_documents"] = Retriever.combine(
        shown.document.text_embedding[None], shown.document.image_embedding[None]
    )
    for which, query, other in ((0, by_image, "by_text"), (1, by_text, "by_image")):
        wanted = (config.by_image, config.by_text)[which]
        alone = dataclasses.replace(config, **{other: 0}) if wanted else None
        lists.append(
            _candidates(explained_neighbours_of(bank, **query, **known, config=alone)[0], which) if alone else []
        )
    return Search(*lists)


def _candidates(found: Explained, which: int) -> list[Candidate]:
    candidates, verdicts = found.candidates[which], found.verdicts[which]
    rows = zip(
        candidates.ids[0].tolist(),
        candidates.scores[0].tolist(),
        verdicts.reasons[0].tolist(),
        verdicts.others[0].tolist(),
        verdicts.similarities[0].tolist(),
        strict=True,
    )
    return [
        Candidate(place, score, Reason(reason), other, similarity)
        for place, score, reason, other, similarity in rows
        if reason != Reason.NOTHING
    ]
