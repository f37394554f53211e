"""Random numbers that are a pure function of what they are for, so that any example can be drawn without the others."""

from __future__ import annotations

import numpy as np

_WORD = (1 << 64) - 1


def keyed_rng(seed: int, stage: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one use of one example. `stage` keeps the steps that work on the same example independent.

    All four are integers in 0 … 2^64−1. Philox is counter-based: each (epoch, index) owns 2^128 numbers of its own.
    """
    return np.random.Generator(np.random.Philox(counter=[0, 0, index, epoch], key=[seed, stage]))


def mixed(*values: int) -> int:
    """Hashes integers to 64 bits (the finaliser of splitmix64, chained)."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & _WORD
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _WORD
        state ^= state >> 31
    return state


def permuted(place: int, size: int, key: int) -> int:
    """Where a pseudo-random permutation of 0 … size−1 sends `place`, in constant time and memory.

    A Feistel network permutes the next larger power of four; walking along its cycle until the value is below `size`
    makes it a permutation of `size` values. A stored permutation of 340M examples would take gigabytes on each host.
    """
    if not 0 <= place < size:
        raise IndexError(f"place {place} of {size}")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    value = place
    while True:
        left, right = value >> half, value & mask
        for turn in range(4):
            left, right = right, left ^ (mixed(key + turn, right) & mask)
        value = left << half | right
        if value < size:
            return value
