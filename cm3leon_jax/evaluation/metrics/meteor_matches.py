"""What METEOR 1.5 takes for a match: equal words, equal stems, synonyms, and paraphrases."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from cm3leon_jax.evaluation.metrics.stemmer import stem

EXACT, STEM, SYNONYM, PARAPHRASE = range(4)


class Match(NamedTuple):
    """Words [test_start, +test_length) of the candidate stand for words [start, +length) of the reference."""

    module: int
    start: int
    length: int
    test_start: int
    test_length: int


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """What the matchers know: synonym sets of a word (None: no synonyms), and paraphrases of a phrase."""

    synonym_sets: Callable[[str], Collection[int]] | None
    paraphrases: Mapping[str, Sequence[str]]


def find_matches(test: Sequence[str], reference: Sequence[str], knowledge: Knowledge) -> list[Match]:
    """The words of a candidate and of a reference -> all matches between them, in the order of the four modules.

    Texts that are equal word by word have exact matches alone.
    """
    ours, theirs = [_key(word) for word in test], [_key(word) for word in reference]
    pairs = [(j, i) for j in range(len(theirs)) for i in range(len(ours))]
    matches = [Match(EXACT, j, 1, i, 1) for j, i in pairs if theirs[j] == ours[i]]
    if ours == theirs:
        return matches
    different = [(j, i) for j, i in pairs if theirs[j] != ours[i]]
    our_stems, their_stems = [_key(stem(word)) for word in test], [_key(stem(word)) for word in reference]
    matches += [Match(STEM, j, 1, i, 1) for j, i in different if their_stems[j] == our_stems[i]]
    if knowledge.synonym_sets is not None:
        our_sets, their_sets = [[set(knowledge.synonym_sets(word)) for word in text] for text in (test, reference)]
        matches += [Match(SYNONYM, j, 1, i, 1) for j, i in different if their_sets[j] & our_sets[i]]
    return matches + _paraphrases(test, reference, knowledge.paraphrases)


@functools.lru_cache(maxsize=1 << 16)
def _key(word: str) -> int:
    """What the original compares in place of words: Java's hash, which "to" and "v1" share."""
    key = 0
    for unit in memoryview(word.encode("utf-16-le", "surrogatepass")).cast("H"):
        key = (31 * key + unit) & 0xFFFFFFFF
    return key


def _paraphrases(test: Sequence[str], reference: Sequence[str], table: Mapping[str, Sequence[str]]) -> list[Match]:
    if not table:
        return []
    found = [Match(PARAPHRASE, *place, *other) for place, other in _rephrased(reference, test, table)]
    return found + [Match(PARAPHRASE, *other, *place) for place, other in _rephrased(test, reference, table)]


def _rephrased(text: Sequence[str], other: Sequence[str], table: Mapping[str, Sequence[str]]) -> list[tuple]:
    """Where (start, length) a phrase of the text has a paraphrase in the other one, and where that is."""
    found = []
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            for paraphrase in table.get(" ".join(text[start:end]), ()):
                words = paraphrase.split()
                found += [
                    ((start, end - start), (at, len(words)))
                    for at in range(len(other) - len(words) + 1)
                    if list(other[at : at + len(words)]) == words
                ]
    return found
