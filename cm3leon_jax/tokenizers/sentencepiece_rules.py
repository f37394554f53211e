"""SentencePiece's normalization rules, read out of a model: which strings are rewritten to which.

A model holds them as `precompiled_charsmap`: the size of a trie in bytes, the trie (a Darts double array of 32-bit
units) and the outputs, each ended by a zero byte. SentencePiece rewrites a text from left to right, by the longest
rule that applies.
"""

from __future__ import annotations

import numpy as np

_LABEL = 0x800000FF  # what says which byte leads to a unit; the high bit marks units that hold a value
_VALUE = 0x7FFFFFFF


def read_rules(charsmap: bytes) -> dict[str, str]:
    """`precompiled_charsmap` -> {input: output}. Empty for no rules. `charsmap` is taken to be whole."""
    if not charsmap:
        return {}
    trie_bytes = int.from_bytes(charsmap[:4], "little")
    units = np.frombuffer(charsmap, "<u4", count=trie_bytes // 4, offset=4)
    outputs = charsmap[4 + trie_bytes :]
    edges: dict[int, list[tuple[bytes, int]]] = {}  # endings that inputs share are stored once
    rules = {}
    unvisited = [(b"", 0)]
    while unvisited:
        prefix, position = unvisited.pop()
        unit = int(units[position])
        below = position ^ (unit >> 10) << ((unit & 1 << 9) >> 6)  # XOR a byte: where that byte leads to
        if unit >> 8 & 1:  # an input ends here
            start = int(units[below]) & _VALUE
            rules[prefix.decode()] = outputs[start : outputs.index(b"\0", start)].decode()
        if position not in edges:
            edges[position] = _edges(units, below)
        unvisited += [(prefix + byte, child) for byte, child in edges[position]]
    return rules


def _edges(units: np.ndarray, below: int) -> list[tuple[bytes, int]]:
    """(byte, position) of the units that a unit leads to."""
    children = below ^ np.arange(1, 256)
    there = children[children < len(units)]
    there = there[units[there] & _LABEL == there ^ below]
    return [(bytes([below ^ child]), child) for child in there.tolist()]
