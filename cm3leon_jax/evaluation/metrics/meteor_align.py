"""METEOR 1.5's alignment of two texts: a beam search for the best of all matches of their words and phrases."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from cm3leon_jax.evaluation.metrics.meteor_matches import Knowledge, Match, find_matches

_BEAM = 40
# What a matched word counts in the search; the original adds them to integers, so that a lone half counts nothing.
_SEARCH_WEIGHTS = (1.0, 0.5, 0.5, 0.5)


def align(test: Sequence[str], reference: Sequence[str], knowledge: Knowledge) -> list[Match]:
    """The words of a candidate and of a reference -> the matches of their best alignment, from left to right.

    Denkowski and Lavie, 2014, "Meteor universal", section 2: the most words covered, then the fewest chunks, then the
    shortest distance between the starts of matches, as far as a beam of 40 finds them.
    """
    matches = find_matches(test, reference, knowledge)
    at: list[list[Match]] = [[] for _ in reference]
    for match in matches:
        at[match.start].append(match)
    chosen = _search(at, _definite(at, matches, len(test)))
    return [chosen[start] for start in sorted(chosen)]


def chunks(matches: Sequence[Match]) -> int:
    """In how many runs matches from left to right are adjacent and in order in both texts."""
    ends = [(match.start + match.length, match.test_start + match.test_length) for match in matches]
    starts = [(match.start, match.test_start) for match in matches]
    return len(matches) and 1 + sum(end != start for end, start in zip(ends, starts[1:], strict=False))


@dataclasses.dataclass
class _Path:
    """A partial alignment: the matches chosen, by start, and the words used, as bits."""

    matches: dict[int, Match]
    used_test: int = 0
    used: int = 0
    covered_test: int = 0
    covered: int = 0
    chunks: int = 0
    next: int = 0
    last_test_end: int = -1
    distance: int = 0

    def order(self) -> tuple[int, int, int]:
        return -(self.covered_test + self.covered), self.chunks, self.distance

    def free(self, match: Match) -> bool:
        return not (
            self.used & _bits(match.start, match.length) or self.used_test & _bits(match.test_start, match.test_length)
        )

    def mark(self, match: Match) -> None:
        self.matches[match.start] = match
        self.used |= _bits(match.start, match.length)
        self.used_test |= _bits(match.test_start, match.test_length)

    def count(self, match: Match) -> None:
        weight = _SEARCH_WEIGHTS[match.module]
        self.covered_test = int(self.covered_test + match.test_length * weight)
        self.covered = int(self.covered + match.length * weight)
        if self.last_test_end not in (-1, match.test_start):
            self.chunks += 1
        self.next = match.start + match.length
        self.last_test_end = match.test_start + match.test_length

    def skip(self) -> None:
        self.close()
        self.next += 1

    def close(self) -> None:
        if self.last_test_end != -1:
            self.chunks += 1
            self.last_test_end = -1


def _bits(start: int, length: int) -> int:
    return ((1 << length) - 1) << start


def _definite(at: Sequence[Sequence[Match]], matches: Sequence[Match], test_length: int) -> _Path:
    """The matches that nothing competes with: the only one at its place, of words that no other match covers."""
    coverage, test_coverage = [0] * len(at), [0] * test_length
    for match in matches:
        for word in range(match.start, match.start + match.length):
            coverage[word] += 1
        for word in range(match.test_start, match.test_start + match.test_length):
            test_coverage[word] += 1
    path = _Path({})
    for match in (found[0] for found in at if len(found) == 1):
        covered = coverage[match.start : match.start + match.length]
        covered_test = test_coverage[match.test_start : match.test_start + match.test_length]
        if set(covered) | set(covered_test) == {1}:
            path.mark(match)
    return path


def _search(at: Sequence[Sequence[Match]], start: _Path) -> dict[int, Match]:
    paths = [start]
    for current, matches in enumerate(at):
        paths.sort(key=_Path.order)
        extended: list[_Path] = []
        for path in paths[:_BEAM]:
            extended += _extended(path, current, matches)
        paths = extended or paths[:1]
    paths = sorted(paths, key=_Path.order)[:_BEAM]
    for path in paths:
        path.close()
    return min(paths, key=_Path.order).matches


def _extended(path: _Path, current: int, matches: Sequence[Match]) -> list[_Path]:
    if path.used >> current & 1:
        if current < path.next:
            return [path]
        if (definite := path.matches.get(path.next)) is None:
            return []
        path.count(definite)
        path.distance += abs(definite.start - definite.test_start)
        return [path]
    found = []
    for match in matches:
        if path.free(match):
            longer = dataclasses.replace(path, matches=dict(path.matches))
            longer.mark(match)
            longer.count(match)
            # The original charges a chosen match's distance to the paths that do not choose it; so does this.
            path.distance += abs(match.start - match.test_start)
            found.append(longer)
    path.skip()
    return [*found, path]
