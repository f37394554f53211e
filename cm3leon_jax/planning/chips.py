"""TPU generations and slices: what one chip has, and how the chips of a slice are wired.

Figures are Google's published ones (Cloud TPU documentation); `clock_hz` follows from the peak and the number of
multiply-accumulate units, and turns the compiler's cycle estimates into seconds.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

from cm3leon_jax.runtime.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One generation of TPU, per chip."""

    peak_flops: float  # dense bfloat16 FLOP/s
    hbm_bytes: int  # as sold
    usable_hbm_bytes: int  # what the compiler lets a program use; the rest is the runtime's
    hbm_bytes_per_second: float
    clock_hz: float
    link_bytes_per_second: float  # of one inter-chip link, one way
    host_bytes_per_second: float  # between a chip and its host's memory, one way (PCIe, shared by the host's chips)
    dcn_bytes_per_second: float  # one way, each chip's share of its host's network interface
    chips_per_host: int
    cores_per_chip: int  # that a slice's name counts: "v5p-256" has 128 chips
    shapes: Mapping[int, tuple[int, ...]]  # chips -> how they are arranged
    full_ring: int  # an axis is closed to a ring where it is a multiple of this
    topology_options: Mapping[str, object] = dataclasses.field(default_factory=dict)


def _cubes(*chips: int) -> dict[int, tuple[int, ...]]:
    """The most cubical arrangement of each number of chips, in powers of two of at least 2 an axis."""
    shapes = {}
    for count in chips:
        exponent = count.bit_length() - 1
        shapes[count] = tuple(2 ** ((exponent + place) // 3) for place in range(3))
    return shapes


_PLANES = {4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)}

CHIPS = {
    "v4": Chip(
        peak_flops=275e12, hbm_bytes=32 * GIB, usable_hbm_bytes=int(30.75 * GIB), hbm_bytes_per_second=1.2e12,
        clock_hz=1.05e9, link_bytes_per_second=50e9, host_bytes_per_second=8e9, dcn_bytes_per_second=6.25e9,
        chips_per_host=4, cores_per_chip=2, shapes=_cubes(8, 16, 32, 64, 128, 256, 512, 1024, 2048), full_ring=4,
        topology_options={"chip_config_name": "megacore", "chips_per_host_bounds": (2, 2, 1)},
    ),
    "v5e": Chip(
        peak_flops=197e12, hbm_bytes=16 * GIB, usable_hbm_bytes=int(15.75 * GIB), hbm_bytes_per_second=0.82e12,
        clock_hz=1.5e9, link_bytes_per_second=50e9, host_bytes_per_second=8e9, dcn_bytes_per_second=3.125e9,
        chips_per_host=4, cores_per_chip=1, shapes=_PLANES, full_ring=16,
    ),
    "v5p": Chip(
        peak_flops=459e12, hbm_bytes=95 * GIB, usable_hbm_bytes=int(95.74 * GIB), hbm_bytes_per_second=2.765e12,
        clock_hz=1.75e9, link_bytes_per_second=100e9, host_bytes_per_second=16e9, dcn_bytes_per_second=6.25e9,
        chips_per_host=4, cores_per_chip=2, shapes=_cubes(8, 16, 32, 64, 128, 256, 512, 1024, 2048), full_ring=4,
        topology_options={"chips_per_host_bounds": (2, 2, 1)},
    ),
    "v6e": Chip(
        peak_flops=918e12, hbm_bytes=32 * GIB, usable_hbm_bytes=int(31.25 * GIB), hbm_bytes_per_second=1.64e12,
        clock_hz=1.75e9, link_bytes_per_second=100e9, host_bytes_per_second=16e9, dcn_bytes_per_second=12.5e9,
        chips_per_host=4, cores_per_chip=1, shapes=_PLANES, full_ring=16,
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slice:
    """`slices` slices of one type, joined by the data-centre network (DCN)."""

    generation: str
    shape: tuple[int, ...]  # chips along each axis of the network
    slices: int = 1

    @property
    def chip(self) -> Chip:
        return CHIPS[self.generation]

    @property
    def chips_per_slice(self) -> int:
        return math.prod(self.shape)

    @property
    def chips(self) -> int:
        return self.slices * self.chips_per_slice

    @property
    def rings(self) -> tuple[bool, ...]:
        """Along which axes the last chip is linked to the first."""
        return tuple(size % self.chip.full_ring == 0 for size in self.shape)

    @property
    def name(self) -> str:
        """As Google names it: "v5p-256" counts cores, two a chip; "v5e-256" counts chips."""
        one = f"{self.generation}-{self.chips_per_slice * self.chip.cores_per_chip}"
        return one if self.slices == 1 else f"{self.slices}x{one}"


def parse_slice(name: str) -> Slice:
    """ "v5p-256", "2xv5e-256" (two slices), "v5litepod-16" or "v5p:4x4x8" -> the slice. UserError: unknown ones."""
    match = re.fullmatch(r"(?:(\d+)x)?(v\d\w*?)(?:litepod)?(?:-(\d+)|:(\d+(?:x\d+)+))", name)
    if match and match[2] + ("e" if match[2] == "v5" else "") in CHIPS:
        generation = match[2] + ("e" if match[2] == "v5" else "")
        slices = int(match[1] or 1)
        chip = CHIPS[generation]
        if match[4]:
            shape = tuple(int(size) for size in match[4].split("x"))
            if len(shape) == len(next(iter(chip.shapes.values()))) and slices >= 1:
                return Slice(generation, shape, slices)
        else:
            chips, rest = divmod(int(match[3]), chip.cores_per_chip)
            if not rest and chips in chip.shapes and slices >= 1:
                return Slice(generation, chip.shapes[chips], slices)
    raise UserError(f"unknown TPU slice {name!r}; known are {', '.join(known_slices())}, and NxTYPE for N slices")


def known_slices() -> list[str]:
    """One line a generation would be long: the range of each."""
    ranges = []
    for generation, chip in CHIPS.items():
        names = [f"{generation}-{count * chip.cores_per_chip}" for count in sorted(chip.shapes)]
        ranges.append(f"{names[0]} … {names[-1]}")
    return ranges
