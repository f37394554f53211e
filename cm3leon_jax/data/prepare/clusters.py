"""Clusters of images that are near copies: candidates are found (`hashing.py`), compared (`signatures.py`), and joined.

Each step writes files, so killed work continues.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from cm3leon_jax.data.prepare.columns import FOLDER, NumberedPart, column, numbered_parts, runs, thumbnails_of
from cm3leon_jax.data.prepare.counting import report
from cm3leon_jax.data.prepare.hashing import BANDS, candidates
from cm3leon_jax.data.prepare.job import Job
from cm3leon_jax.data.prepare.signatures import are_near_copies
from cm3leon_jax.data.prepare.workers import for_each
from cm3leon_jax.data.splits import is_held_out
from cm3leon_jax.runtime.files import written_aside

_PAIRS = 2**20  # compared by a worker at a time
_HELD = 2**16  # of them, whose thumbnails are in memory
_AT_ONCE = 2**9  # of them, computed on at once: what the processor's cache holds


def clusters_of_images(job: Job, parts: list[NumberedPart], options: Any) -> list[np.ndarray]:
    """Images that are equal to, or near copies of, the first of them: ascending numbers, two or more each."""
    pixels = column(job, "pixels")
    equal = [np.stack([np.full(len(run) - 1, run[0]), run[1:]], axis=1) for run in runs(pixels)]
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *equal, *_near_pairs(job, len(pixels), options)])
    held_out = next((part.images.start for part in parts if is_held_out(part.split)), len(pixels))
    images, leaders = leaders_of(pairs, lambda pairs: _are_near(job, parts, pairs), held_out)
    order = np.argsort(leaders, kind="stable")
    return np.split(images[order], np.flatnonzero(np.diff(leaders[order])) + 1) if len(order) else []


def leaders_of(
    pairs: np.ndarray, are_near: Callable[[np.ndarray], np.ndarray], held_out: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of near copies int64 [n, 2], the smaller number first -> all images in them, ascending, and the leader of
    each, int64 [m] twice.

    A chain of near copies can lead far, so an image follows the first of its chain only if the two are near copies, and
    leads itself otherwise. Images from number `held_out` on always follow: nothing like them may be trained on.
    """
    images, rows = np.unique(pairs, return_inverse=True)
    one, other = rows.reshape(-1, 2).T
    before = np.arange(len(images))
    np.minimum.at(before, other, one)  # the first near copy of each
    leaders = np.arange(len(images))
    for link in _links(before):  # each image is compared once, when the one before it has its leader
        leader = leaders[before[link]]
        unsure = np.flatnonzero((leader != before[link]) & (images[link] < held_out))
        if len(unsure):
            far = unsure[~are_near(np.stack([images[leader[unsure]], images[link[unsure]]], axis=1))]
            leader[far] = link[far]
        leaders[link] = leader
    return images, images[leaders]


def _links(before: np.ndarray) -> list[np.ndarray]:
    """Chains, given for each element by the index of the one before it (of the first: its own) -> all second elements,
    all third ones, and so on."""
    depths: list[int] = []
    for index, previous in enumerate(before.tolist()):
        depths.append(0 if previous == index else depths[previous] + 1)
    order = np.argsort(depths, kind="stable")
    return np.split(order, np.cumsum(np.bincount(depths))[:-1])[1:] if depths else []


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
