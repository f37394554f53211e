"""Banded hashing: near copies meet, and however many images are alike, each is compared with few."""

import numpy as np
import pytest

from cm3leon_jax.data.prepare.clusters import leaders_of
from cm3leon_jax.data.prepare.columns import runs
from cm3leon_jax.data.prepare.hashing import BANDS, WINDOW, candidates
from cm3leon_jax.data.prepare.signatures import COEFFICIENTS, LEAST_CONTRAST, SKETCH


def random_sketches(rng, count, contrast=50.0):
    """Of images whose low frequencies are as strong as those of photographs."""
    order = np.array([1.0] + [down + across for down in range(8) for across in range(8) if 0 < down + across < 8])
    found = np.zeros((count, SKETCH), np.float32)
    found[:, :36] = rng.normal(size=(count, 36)) * (contrast / np.sort(order) ** 1.5)
    found[:, 36:COEFFICIENTS] = rng.normal(size=(count, COEFFICIENTS - 36)) * 8
    found[:, [0, 36, 42]] += 128
    found[:, -1] = contrast
    return found


def all_candidates(sketches):
    return np.unique(np.concatenate([candidates(sketches.astype(np.float16), band) for band in range(BANDS)]), axis=0)


def test_near_copies_meet():
    rng = np.random.default_rng(0)
    originals = random_sketches(rng, 20_000)
    copies = originals[:2000] + rng.normal(size=(2000, SKETCH)) * 0.5
    copies[:, -1] = originals[:2000, -1]
    pairs = {tuple(pair) for pair in all_candidates(np.concatenate([originals, copies])).tolist()}
    assert sum((number, 20_000 + number) in pairs for number in range(2000)) >= 1980
    assert len(pairs) < 4 * 22_000


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_crowd_is_joined_by_few_pairs(noise):
    """However many are alike, and alike to the first."""
    rng = np.random.default_rng(0)
    count = 6 * WINDOW + 5
    crowd = random_sketches(rng, 1) + noise * rng.normal(size=(count, SKETCH)).astype(np.float32)
    crowd[:, -1] = 50
    pairs = all_candidates(crowd)
    assert len(pairs) <= 6 * BANDS * count
    images, leaders = leaders_of(pairs, lambda pairs: np.ones(len(pairs), bool))
    assert len(images) == count and not leaders.any()


def test_images_without_contrast_are_compared_with_nothing():
    flat = random_sketches(np.random.default_rng(0), 5)
    flat[:] = flat[0]
    flat[:, -1] = LEAST_CONTRAST - 1
    assert not len(all_candidates(flat)) and not len(all_candidates(flat[:0]))


def test_a_chain_does_not_lead_far():
    """Numbers are near that differ by one: only what is near the first goes with it."""
    pairs = np.array([[number, number + 1] for number in range(6)])
    images, leaders = leaders_of(pairs, lambda pairs: pairs[:, 1] - pairs[:, 0] <= 1)
    assert images.tolist() == list(range(7))
    assert all(image - leader <= 1 for image, leader in zip(images, leaders, strict=True))
    assert len(set(leaders.tolist())) == 4  # 0 1 | 2 3 | 4 5 | 6


def test_a_long_chain_is_gone_through_once():
    """The frames of a slow pan: each is near the one before it."""
    pairs = np.array([[number, number + by] for by in (1, 2) for number in range(3002 - by)])
    compared = []

    def near(pairs):
        compared.append(len(pairs))
        return pairs[:, 1] - pairs[:, 0] <= 2

    images, leaders = leaders_of(pairs, near)
    assert len(images) == 3002 and (images - leaders <= 2).all() and sum(compared) <= 3002
    assert (np.diff(np.unique(leaders)) > 2).all()  # of two that are near not both lead


def test_runs_are_of_equal_values():
    values = np.array([5, 1, 5, 2, 1, 5, 9], np.uint64)
    assert [run.tolist() for run in runs(values)] == [[1, 4], [0, 2, 5]]
    assert not list(runs(values[:0])) and not list(runs(values[3:4]))
