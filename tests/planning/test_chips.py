import math

import pytest

from cm3leon_jax.planning.chips import CHIPS, parse_slice
from cm3leon_jax.runtime.errors import UserError


@pytest.mark.parametrize(
    "name, generation, shape, slices",
    [
        ("v5p-256", "v5p", (4, 4, 8), 1),
        ("v4-32", "v4", (2, 2, 4), 1),
        ("v5e-256", "v5e", (16, 16), 1),
        ("v5litepod-16", "v5e", (4, 4), 1),
        ("2xv5e-256", "v5e", (16, 16), 2),
        ("v5p:2x2x2", "v5p", (2, 2, 2), 1),
    ],
)
def test_names_of_slices(name, generation, shape, slices):
    found = parse_slice(name)
    assert (found.generation, found.shape, found.slices) == (generation, shape, slices)
    assert parse_slice(found.name) == found


@pytest.mark.parametrize("wrong", ["v5p-255", "v9-8", "v5e-512", "0xv5e-16", "v5p:2x2", "tpu", ""])
def test_unknown_slices_are_refused_with_the_known(wrong):
    with pytest.raises(UserError, match="v5p-16 … v5p-4096"):
        parse_slice(wrong)


@pytest.mark.parametrize("generation", CHIPS)
def test_shapes_hold_their_chips(generation):
    assert all(math.prod(shape) == chips for chips, shape in CHIPS[generation].shapes.items())


def test_whole_axes_are_rings():
    assert parse_slice("v5p-256").rings == (True, True, True)
    assert parse_slice("v4-32").rings == (False, False, True)
    assert parse_slice("v5e-128").rings == (False, True)
