"""What a collective moves, and how long that takes: over the links between chips (ICI), or between slices (DCN)."""

from __future__ import annotations

import dataclasses
import functools
import math
import re

import numpy as np

from cm3leon_jax.planning.chips import Slice
from cm3leon_jax.planning.hlo import Instruction

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# The forms in which a program names groups of partitions: {{0,1},…}, mesh['a'=8,'b'=4] {'b'}, [groups,size]<=[dims]T(…)
_LISTED, _NAMED = r"\{\{[^}]*\}", r"mesh\[[^\]]*\][^{]*\{[^}]*\}"
_COUNTED = r"\[[\d,]+\]<=\[[\d,]+\](?:T\([\d,]*\))?"
FUSED_REDUCE_SCATTER = "all-reduce-scatter"  # how the TPU's compiler names some reduce-scatters' computations
LINK_EFFICIENCY = 0.9  # of the published bandwidth; rings on real slices reach about this


@dataclasses.dataclass(frozen=True)
class Collective:
    """One execution. Bytes are those that one chip sends."""

    kind: str
    ici_bytes: float
    dcn_bytes: float
    seconds: float


def kind_of(instruction: Instruction) -> str | None:
    """The kind of collective that an instruction is or starts; None for others."""
    opcode = instruction.opcode.removesuffix("-start")
    return opcode if opcode in KINDS else None


def fused_reduce_scatter(fusion: Instruction, all_reduce: Instruction) -> Instruction:
    """The reduce-scatter that a fusion of an all-reduce and the slicing of its result is."""
    return dataclasses.replace(all_reduce, opcode="reduce-scatter", arrays=fusion.arrays)


def asynchronous_name(instruction: Instruction) -> str:
    """What the parts of one asynchronous collective, each in a fused computation of its own, have in common.

    Not the channel alone: those written by hand (`shard_map`) all have the same.
    """
    for attribute in ("async_collective_name", "chain_id"):
        found = re.search(rf'\b{attribute}="([^"]+)"', instruction.text)
        if found:
            return f"{attribute} {found[1]}"
    found = re.search(r"\bchannel_id=(\d+)", instruction.text)
    return f"channel {found[1]}" if found else instruction.name


def cost(instruction: Instruction, slice_: Slice, coordinates: np.ndarray) -> Collective:
    """The cost of a collective. `coordinates` [chips, axes + 1] places each partition of the program: its chip's
    coordinates in its slice, then its slice's number."""
    kind = kind_of(instruction)
    assert kind is not None
    # For a -start the result names operands and results: the largest is the whole.
    largest = max((array.bytes for array in instruction.arrays), default=0)
    whole = largest if instruction.opcode.endswith("-start") else instruction.bytes
    if kind == "collective-permute":
        return _permute(instruction, whole, slice_, coordinates)
    group = first_group(instruction.text, len(coordinates))
    if len(group) < 2:
        return Collective(kind, 0.0, 0.0, 0.0)
    if kind == "reduce-scatter":
        whole *= len(group)  # its result is one share
    places = coordinates[np.asarray(group)]
    slices = len(set(places[:, -1].tolist()))
    inside = len(group) // slices
    passes = 2 if kind == "all-reduce" else 1
    # Between slices each chip answers for its share of what its slice holds.
    dcn_bytes = passes * whole / inside * (slices - 1) / slices
    ici_bytes = passes * whole * (inside - 1) / inside if inside > 1 else 0.0
    first_slice = places[places[:, -1] == places[0, -1]][:, :-1]
    ici_rate, ring = _rate(first_slice, slice_)
    if kind == "all-to-all":
        # Each chip keeps 1/n of its own bytes and sends the rest n/8 hops far on average (ring), n/4 (line).
        whole_moved = whole * (inside - 1) / inside
        longest = max((len(set(first_slice[:, axis].tolist())) for axis in range(first_slice.shape[1])), default=1)
        ici_seconds = whole_moved * longest / (8 if ring else 4) / ici_rate * 2 if ici_rate else 0.0
        ici_bytes = whole_moved
    else:
        ici_seconds = ici_bytes / ici_rate if ici_rate else 0.0
    dcn_seconds = dcn_bytes / slice_.chip.dcn_bytes_per_second
    return Collective(kind, ici_bytes, dcn_bytes, ici_seconds + dcn_seconds)


def between_slices(instruction: Instruction, slice_: Slice) -> Collective | None:
    """The part of a collective that goes from slice to slice: a transfer by the hosts, which a `send` begins."""
    kind = re.search(r'_xla_megascale_transfer_type="([A-Z_]+)"', instruction.text)
    if instruction.opcode != "send" or kind is None:
        return None
    others = slice_.slices - 1
    # Of what a chip hands over: a sum is exchanged in two halves, a gathering goes to every other slice.
    share = {"ALL_REDUCE": 2 * others / slice_.slices, "ALL_GATHER": others}.get(kind[1], others / slice_.slices)
    sent = instruction.arrays[0].bytes * share
    return Collective(kind[1].lower().replace("_", "-"), 0.0, sent, sent / slice_.chip.dcn_bytes_per_second)


def rendezvous(instruction: Instruction) -> str:
    """What the `send` and the `recv` of one transfer between slices have in common."""
    found = re.search(r'_xla_host_transfer_rendezvous="([^"]*?)(?:_\d+)?"', instruction.text)
    return found[1] if found else instruction.name


def _permute(instruction: Instruction, whole: int, slice_: Slice, coordinates: np.ndarray) -> Collective:
    found = re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", instruction.text)
    pair = coordinates[[int(found[1]), int(found[2])]] if found else coordinates[:2]
    if pair[0, -1] != pair[1, -1]:
        return Collective("collective-permute", 0.0, whole, whole / slice_.chip.dcn_bytes_per_second)
    seconds = whole / (slice_.chip.link_bytes_per_second * LINK_EFFICIENCY)
    return Collective("collective-permute", whole, 0.0, seconds)


def _rate(places: np.ndarray, slice_: Slice) -> tuple[float, bool]:
    """Bytes a second that reach a chip of a group inside one slice, and whether all its axes are rings.

    An axis that the group spans whole and that is closed to a ring brings two links, another one.
    """
    links, ring = 0, True
    for axis, (size, closed) in enumerate(zip(slice_.shape, slice_.rings, strict=True)):
        extent = len(set(places[:, axis].tolist()))
        if extent > 1:
            whole_ring = closed and extent == size
            links += 2 if whole_ring else 1
            ring = ring and whole_ring
    return links * slice_.chip.link_bytes_per_second * LINK_EFFICIENCY, ring


@functools.lru_cache(maxsize=1024)
def _parse_groups(attribute: str, partitions: int) -> tuple[int, ...]:
    if attribute.startswith("{{"):
        return tuple(int(number) for number in attribute[2:].split("}", 1)[0].split(",") if number)
    if attribute.startswith("mesh["):
        return _mesh_group(attribute)
    if attribute.startswith("["):
        return _iota_group(attribute)
    return tuple(range(partitions))  # {}: all


def first_group(text: str, partitions: int) -> tuple[int, ...]:
    """The partitions of the first group that a collective's text names; the others are like it."""
    found = re.search(rf"replica_groups=({_LISTED}|{_NAMED}|{_COUNTED})", text)
    return _parse_groups(found[1] if found else "", partitions)


def _iota_group(attribute: str) -> tuple[int, ...]:
    """[groups,size]<=[dims]T(permutation): the first of the groups."""
    found = re.match(r"\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attribute)
    if found is None:
        raise ValueError(f"replica groups in a form that is not known: {attribute[:120]}")
    dims = [int(size) for size in found[3].split(",")]
    ids = np.arange(math.prod(dims)).reshape(dims)
    if found[4]:
        ids = ids.transpose([int(axis) for axis in found[4].split(",")])
    return tuple(ids.reshape(int(found[1]), int(found[2]))[0].tolist())


def _mesh_group(attribute: str) -> tuple[int, ...]:
    """mesh['a'=8,'b'=4] {'b'}: the devices that differ along the named axes alone; the order may be given behind."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", attribute)}
    chosen = re.findall(r"'([^']+)'(?!=)", attribute[attribute.rindex("{") :])
    total = math.prod(sizes.values())
    order = re.search(r"device_ids=\(?\[([\d,]+)\](?:T\(([\d,]+)\))?", attribute)
    ids = np.arange(total)
    if order is not None:
        dims = [int(size) for size in order[1].split(",")]
        ids = ids.reshape(dims)
        if order[2]:
            ids = ids.transpose([int(axis) for axis in order[2].split(",")])
    ids = ids.reshape(tuple(sizes.values()))
    index = tuple(slice(None) if name in chosen else 0 for name in sizes)
    return tuple(ids[index].reshape(-1).tolist())
