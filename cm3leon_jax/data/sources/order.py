"""In which order the examples of a split are used, without end: a pure function of the seed."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from cm3leon_jax.data.sources.several import Share
from cm3leon_jax.runtime.errors import UserError

_DECK = 1000  # slots in which each share has its exact part


class Order:
    """Each epoch of a share is a permutation of its own. Of several shares, slots are dealt in decks: of as many slots
    of each as its weight says, in random order. `UserError` where that is less than one."""

    def __init__(self, shares: Sequence[Share], seed: int):
        self._shares, self._seed = shares, seed
        weights = np.cumsum([0.0, *(share.weight for share in shares)])
        self._slots = np.diff(np.rint(_DECK * weights / weights[-1]).astype(int))  # of a deck, for each share
        if not self._slots.all():
            raise UserError(f"a source has less than 1/{_DECK} of the weight of all: give it more, or leave it out")
        self._permutation = functools.lru_cache(maxsize=2 * len(shares))(self._draw_permutation)
        self._deck = functools.lru_cache(maxsize=2)(self._draw_deck)

    def candidates(self, slot: int) -> Iterator[int]:
        """The example of a slot, then those that may stand in for it: the ones behind it in its epoch, all once."""
        share, slot = self._dealt(slot)
        epoch, place = divmod(slot, len(self._shares[share].range))
        order = self._permutation(share, epoch)
        for offset in range(len(order)):
            yield self._shares[share].range[int(order[(place + offset) % len(order)])]

    def _dealt(self, slot: int) -> tuple[int, int]:
        """The share that a slot is of, and how many slots of that share came before."""
        if len(self._shares) == 1:
            return 0, slot
        number, place = divmod(slot, _DECK)
        shares, before = self._deck(number)
        share = int(shares[place])
        return share, int(number * self._slots[share] + before[place])

    def _draw_permutation(self, share: int, epoch: int) -> np.ndarray:
        key = [self._seed, epoch, share] if share else [self._seed, epoch]
        return np.random.default_rng(key).permutation(len(self._shares[share].range))

    def _draw_deck(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each slot of a deck its share, and how many of that share come before it in the deck."""
        cards = np.repeat(np.arange(len(self._slots)), self._slots)
        shares = np.random.default_rng([self._seed, number, _DECK]).permutation(cards)
        before = np.zeros(_DECK, int)
        for share, count in enumerate(self._slots):
            before[shares == share] = np.arange(count)
        return shares, before
