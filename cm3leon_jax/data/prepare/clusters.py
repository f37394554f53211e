"""Clusters of images that are near copies: candidates are found (`hashing.py`), compared (`signatures.py`), and joined.

Each step writes files, so killed work continues.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from cm3leon_jax.data.prepare.columns import FOLDER, NumberedPart, column, numbered_parts, runs, thumbnails_of
from cm3leon_jax.data.prepare.counting import report
from cm3leon_jax.data.prepare.hashing import BANDS, candidates
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.signatures import are_near_copies
from cm3leon_jax.data.prepare.workers import for_each
from cm3leon_jax.runtime.files import written_aside

_PAIRS = 2**20  # compared by a worker at a time
_HELD = 2**16  # of them, whose thumbnails are in memory
_AT_ONCE = 2**9  # of them, computed on at once: what the processor's cache holds


class Copies(NamedTuple):
    """Images that are equal or near copies."""

    pairs: np.ndarray  # int64 [n, 2], the smaller number first; each once
    clusters: list[np.ndarray]  # ascending numbers, two or more each: near copies of the first of them


def copies_of_images(job: Job, parts: list[NumberedPart], options: Any) -> Copies:
    """Finds the copies among all images. A cluster may lack a near copy that is in another one, or in none."""
    pixels = column(job, "pixels")
    equal = [np.stack([np.full(len(run) - 1, run[0]), run[1:]], axis=1) for run in runs(pixels)]
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *equal, *_near_pairs(job, len(pixels), options)])
    images, leaders = leaders_of(pairs, lambda pairs: _are_near(job, parts, pairs))
    found = np.stack([leaders, images], axis=1)[leaders != images]
    order = np.argsort(leaders, kind="stable")
    clusters = np.split(images[order], np.flatnonzero(np.diff(leaders[order])) + 1) if len(order) else []
    clusters = [cluster for cluster in clusters if len(cluster) > 1]
    return Copies(np.unique(np.concatenate([pairs, found]), axis=0), clusters)


def leaders_of(pairs: np.ndarray, are_near: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of near copies int64 [n, 2], the smaller number first -> all images in them, ascending, and the leader of
    each, int64 [m] twice.

    In order of the numbers, an image follows the first leader that it is in a pair with, else the leader of the first
    image that it is in a pair with, if it is a near copy of that too. Otherwise it leads itself. So of two images in a
    pair not both lead, and all that follow are near copies of their leader, however long a chain is.
    """
    images, rows = np.unique(pairs, return_inverse=True)
    one, other = rows.reshape(-1, 2).T
    leaders = np.arange(len(images))
    for smaller, larger in _by_level(one, other, len(images)):  # what is in no pair with each other, at once
        followers, where = np.unique(larger, return_inverse=True)
        none = len(images)
        leader, first = np.full((2, len(followers)), none)
        leads = leaders[smaller] == smaller
        np.minimum.at(leader, where[leads], smaller[leads])
        np.minimum.at(first, where, smaller)
        unsure = np.flatnonzero(leader == none)
        if len(unsure):
            leader[unsure] = leaders[first[unsure]]
            near = are_near(np.stack([images[leader[unsure]], images[followers[unsure]]], axis=1))
            leader[unsure[~near]] = followers[unsure[~near]]
        leaders[followers] = leader
    return images, images[leaders]


def _by_level(one: np.ndarray, other: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of numbers below `count`, the smaller first, in groups: when a group comes, all groups with pairs whose
    larger number is a smaller one of this group have come."""
    order = np.argsort(other, kind="stable")
    levels = [0] * count
    for smaller, larger in zip(one[order].tolist(), other[order].tolist(), strict=True):
        levels[larger] = max(levels[larger], levels[smaller] + 1)
    of_pair = np.array(levels, np.int64)[other]
    order = np.argsort(of_pair, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(of_pair[order])) + 1):
        if len(group):
            yield one[group], other[group]


def _near_pairs(job: Job, images: int, options: Any) -> list[np.ndarray]:
    """Pairs of near copies, the smaller number first; int64 [n, 2] each."""
    if not images:
        return []
    missing = [band for band in range(BANDS) if not _candidates_path(job, band).exists()]
    for_each(
        job,
        _find_candidates,
        missing,
        options,
        label="images hashed",
        unit="images",
        total=BANDS * images,
        done=(BANDS - len(missing)) * images,
    )
    pairs = sum(len(_load(_candidates_path(job, band))) for band in range(BANDS))
    if not pairs:
        return []
    step = -(-images // -(-pairs // _PAIRS))
    ranges = [range(start, start + step) for start in range(0, images, step)]
    left = [each for each in ranges if not _near_path(job, each).exists()]
    for_each(job, _compare, left, options, label="images compared", unit="pairs", total=None)
    return [np.load(_near_path(job, each)) for each in ranges]


def _find_candidates(job: Job, band: int) -> None:
    sketches = column(job, "sketches")
    _save(_candidates_path(job, band), candidates(sketches, band))
    report(len(sketches))


def _compare(job: Job, images: range) -> None:
    """The pairs that the bands have found whose first one is among `images`."""
    found = []
    for band in range(BANDS):
        pairs = _load(_candidates_path(job, band))
        first, stop = np.searchsorted(pairs[:, 0], [images.start, images.stop])
        found.append(np.array(pairs[first:stop]))
    pairs = np.unique(np.concatenate(found), axis=0)
    _save(_near_path(job, images), pairs[_are_near(job, numbered_parts(job), pairs)])


def _are_near(job: Job, parts: list[NumberedPart], pairs: np.ndarray) -> np.ndarray:
    """Pairs of images int64 [n, 2] -> bool [n]."""
    near = np.zeros(len(pairs), bool)
    for held in range(0, len(pairs), _HELD):
        images, rows = np.unique(pairs[held : held + _HELD], return_inverse=True)
        thumbnails, rows = thumbnails_of(job, parts, images), rows.reshape(-1, 2)
        for start in range(0, len(rows), _AT_ONCE):
            one, other = rows[start : start + _AT_ONCE].T
            near[held + start : held + start + len(one)] = are_near_copies(thumbnails[one], thumbnails[other])
        report(len(rows))
    return near


def _candidates_path(job: Job, band: int) -> pathlib.Path:
    return job.path(FOLDER, f"candidates-{band}.npy")


def _near_path(job: Job, images: range) -> pathlib.Path:
    return job.path(FOLDER, f"near-{images.start:012d}.npy")


def _load(path: pathlib.Path) -> np.ndarray:
    """Mapped from disk."""
    return np.load(path, mmap_mode="r")


def _save(path: pathlib.Path, array: np.ndarray) -> None:
    with written_aside(path) as aside, open(aside, "wb") as file:
        np.save(file, array)
