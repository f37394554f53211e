import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm3leon_jax.data.randomness import keyed_rng, mixed, permuted


@given(st.integers(1, 300), st.integers(0, 2**64 - 1))
def test_permuted_is_a_permutation(size, key):
    assert sorted(permuted(place, size, key) for place in range(size)) == list(range(size))


def test_permutations_differ_by_key_and_look_random():
    first, second = ([permuted(place, 1000, key) for place in range(1000)] for key in (1, 2))
    assert np.mean(np.equal(first, second)) < 0.01
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1
    # Neighbours do not stay neighbours: the mean distance of two random places is a third of the size.
    assert 280 < np.abs(np.diff(first)).mean() < 390


def test_permuted_refuses_places_outside():
    with pytest.raises(IndexError):
        permuted(5, 5, 0)


def test_every_part_of_the_key_changes_the_numbers():
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (2**63 - 1, 2, 2**40, 2**33)]
    assert len({keyed_rng(*key).random() for key in keys}) == len(keys)
    assert keyed_rng(3, 1, 4, 1).random() == keyed_rng(3, 1, 4, 1).random()
    assert len({mixed(*key) for key in keys}) == len(keys)
