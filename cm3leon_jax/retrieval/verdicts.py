"""What became of each candidate of a search, noted while the rules of `selection.py` are applied."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np

from cm3leon_jax.retrieval.memory_bank import NOTHING


class Reason(enum.IntEnum):
    NOTHING = 0  # the search found no candidate here
    ITSELF = 1  # it is the query
    LACKS_MODALITY = 2
    SAME_EMBEDDING = 3  # the query again: an exact duplicate
    TOO_SIMILAR_TO_QUERY = 4
    TOO_SIMILAR_TO_TAKEN = 5
    TAKEN_ALREADY = 6  # by the other list
    TAKEN = 7
    ENOUGH = 8  # as many as are wanted were taken before it


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """Of one list of candidates, for each of Q queries."""

    reasons: np.ndarray  # `Reason`, int8 [Q, K]
    others: np.ndarray  # int32 [Q, K]: of TOO_SIMILAR_TO_TAKEN, the id of the one that was taken; else -1
    similarities: np.ndarray  # float32 [Q, K]: … and the inner product with it; else nan


class Journal:
    """Notes the first reason that is given against each candidate of both lists."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]):
        self._verdicts = [
            Verdicts(
                np.full(shape, Reason.ENOUGH, np.int8),
                np.full(shape, NOTHING, np.int32),
                np.full(shape, np.nan, np.float32),
            )
            for shape in shapes
        ]

    def note(self, which: int, struck: np.ndarray, reason: Reason) -> None:
        """`struck`, bool [Q, K]: the candidates of list `which` that a rule applies to."""
        reasons = self._verdicts[which].reasons
        reasons[struck & (reasons == Reason.ENOUGH)] = reason

    def note_similar(self, which: int, struck: np.ndarray, taken: np.ndarray, similarities: np.ndarray) -> None:
        """Those `struck` are too similar to the documents `taken`, ids [Q]; `similarities` [Q, K]."""
        verdicts = self._verdicts[which]
        new = struck & (verdicts.reasons == Reason.ENOUGH)
        verdicts.reasons[new] = Reason.TOO_SIMILAR_TO_TAKEN
        verdicts.others[new] = np.broadcast_to(taken[:, None], new.shape)[new]
        verdicts.similarities[new] = similarities[new]

    def closed(self, chosen: Sequence[np.ndarray]) -> tuple[Verdicts, Verdicts]:
        """The verdicts, once the places `chosen` [Q, wanted] of each list are known (-1: none was left).

        A list that got all that are wanted was not looked at behind the last of them, whatever would have been said
        there.
        """
        for verdicts, places in zip(self._verdicts, chosen, strict=True):
            queries, turns = np.nonzero(places >= 0)
            verdicts.reasons[queries, places[queries, turns]] = Reason.TAKEN
            last = np.where((places >= 0).all(axis=1), places.max(axis=1, initial=-1), verdicts.reasons.shape[1])
            behind = np.arange(verdicts.reasons.shape[1]) > last[:, None]
            unseen = behind & (verdicts.reasons != Reason.NOTHING)
            verdicts.reasons[unseen] = Reason.ENOUGH
            verdicts.others[unseen], verdicts.similarities[unseen] = NOTHING, np.nan
        by_image, by_text = self._verdicts
        return by_image, by_text
