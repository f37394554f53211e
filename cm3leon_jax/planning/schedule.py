"""How long a compiled program takes: its schedule is walked, instruction by instruction.

- What the compiler estimated counts with its cycles ÷ the chip's clock; loops with their trip counts.
- Kernels (attention) carry no estimate: their FLOPs count at `KERNEL_EFFICIENCY` of the chip's peak. They are those
  that causal attention needs; what a kernel computes beyond (the masked half of tiles on the diagonal) is part of its
  efficiency. The sampling rule's kernel counts with `RULE_CYCLES`.
- Collectives count with their bytes ÷ the links' bandwidth (`collectives.py`). One that starts and ends at different
  places of the schedule runs beside what lies between; the links do one at a time. Others stop the chip.
- Copies between the host's memory and the chip's run beside computation, one after the other.

Not counted: copies within the chip, waiting for input, launching the step.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re

import numpy as np

from cm3leon_jax.model.attention_backward import KERNEL_NAME as BACKWARD_KERNEL
from cm3leon_jax.planning import collectives
from cm3leon_jax.planning.chips import Slice
from cm3leon_jax.planning.hlo import Instruction, Program
from cm3leon_jax.sampling.rule_kernel import KERNEL_NAME as RULE_KERNEL

KERNEL_EFFICIENCY = 0.5
# Of 8 rows of 1,024 tokens by CD-K, the dearest rule: the instructions that the compiler scheduled for v5e, loops with
# their counts, are 650 where a row has 8,192 tokens and 690 where it has 56,318. Waits within the kernel do not count.
RULE_CYCLES = 700
_HOST_SPACE = 5
# Matrix products of [queries, keys] × head_dim that each attention kernel makes: the library's forward one, our
# backward one, and the library's, which lengths too long for ours take.
_KERNEL_PRODUCTS = (("splash_mha_fwd", 2), (BACKWARD_KERNEL, 5), ("splash_mha_dkv", 5))


@dataclasses.dataclass
class Cost:
    """Of one run of a program on one chip."""

    seconds: float = 0.0
    computing: float = 0.0  # seconds by the compiler's cycles
    kernels: float = 0.0  # seconds
    waiting: float = 0.0  # seconds that the chip waits for collectives and for the host
    open_loops: float = 0.0  # seconds, of all these, in loops whose length the data decide
    kernel_flops: float = 0.0
    ici_bytes: dict[str, float] = dataclasses.field(default_factory=lambda: collections.defaultdict(float))
    dcn_bytes: dict[str, float] = dataclasses.field(default_factory=lambda: collections.defaultdict(float))
    scopes: dict[str, float] = dataclasses.field(default_factory=lambda: collections.defaultdict(float))
    warnings: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Cost, times: float = 1.0) -> None:
        for name in ("seconds", "computing", "kernels", "waiting", "open_loops", "kernel_flops"):
            setattr(self, name, getattr(self, name) + times * getattr(other, name))
        for mine, theirs in (
            (self.ici_bytes, other.ici_bytes),
            (self.dcn_bytes, other.dcn_bytes),
            (self.scopes, other.scopes),
        ):
            for key, value in theirs.items():
                mine[key] += times * value
        self.warnings += [warning for warning in other.warnings if warning not in self.warnings]


def program_cost(program: Program, slice_: Slice, coordinates: np.ndarray, trips: int | None = None) -> Cost:
    """The cost of the entry computation; `coordinates` as in `collectives.cost`. A loop whose length the data decide
    counts with `trips`; without them once, with a warning."""
    return _Walker(program, slice_, coordinates, trips).cost(program.entry)


class _Walker:
    def __init__(self, program: Program, slice_: Slice, coordinates: np.ndarray, trips: int | None):
        self.program, self.slice, self.coordinates, self.trips = program, slice_, coordinates, trips
        self.cost = functools.cache(self._cost)

    def _cost(self, name: str) -> Cost:
        """Of a computation run once."""
        total = Cost()
        instructions = self.program.computations[name]
        # An asynchronous collective shows in several instructions under one name: it starts at the first and ends at
        # the last of them.
        places = collections.defaultdict(list)
        inside = {}
        for instruction in instructions:
            inside[instruction.name] = self._collectives_in(instruction)
            for name in inside[instruction.name]:
                places[name].append(instruction.name)
        links_free = network_free = host_free = 0.0
        ends: dict[str, float] = {}
        awaited: dict[str, str] = {}  # by a `recv`: the transfer that it is the end of
        for instruction in instructions:
            self._spend(total, instruction)
            for name, found in inside[instruction.name].items():
                first, last = places[name][0], places[name][-1]
                if instruction.name == first:
                    moved = collectives.cost(found, self.slice, self.coordinates)
                    total.ici_bytes[moved.kind] += moved.ici_bytes
                    total.dcn_bytes[moved.kind] += moved.dcn_bytes
                    links_free = max(links_free, total.seconds) + moved.seconds
                    ends[name] = links_free
                asynchronous = instruction.opcode.endswith("-start")
                if instruction.name == last and not asynchronous:
                    self._wait(total, ends[name], found.op_name)
            between = collectives.between_slices(instruction, self.slice)
            if between is not None:
                total.dcn_bytes[between.kind] += between.dcn_bytes
                network_free = max(network_free, total.seconds) + between.seconds
                ends[collectives.rendezvous(instruction)] = network_free
            elif instruction.opcode == "recv":
                awaited[instruction.name] = collectives.rendezvous(instruction)
            if instruction.opcode.endswith("-start") and not inside[instruction.name]:
                copied = self._host_copy(instruction)
                if copied is not None:
                    host_free = max(host_free, total.seconds) + copied
                    ends[instruction.name] = host_free
            elif instruction.opcode.endswith("-start"):
                ends[instruction.name] = ends[next(iter(inside[instruction.name]))]
            elif instruction.opcode.endswith("-done") and instruction.operands:
                operand = instruction.operands[0]
                self._wait(total, ends.get(awaited.get(operand, operand), 0.0), instruction.op_name)
        return total

    def _spend(self, total: Cost, instruction: Instruction) -> None:
        """Adds the time of computing one instruction, the computations that it calls included."""
        if instruction.opcode == "while":
            body, trips = instruction.called("body"), self._trips(instruction)
            assert body is not None
            if trips is None:
                if self.trips is None:
                    total.warnings.append(f"the length of a loop is not known ({instruction.op_name}); counted once")
                trips = self.trips or 1
                total.open_loops += trips * self.cost(body).seconds
            total.add(self.cost(body), trips)
        elif instruction.opcode == "conditional":
            costs = [self.cost(branch) for branch in instruction.branches]
            total.add(max(costs, key=lambda cost: cost.seconds))
        elif instruction.opcode in ("call", "async-start"):
            called = instruction.called("to_apply") or instruction.called("calls")
            if called in self.program.computations:
                total.add(self.cost(called))
        elif 'custom_call_target="tpu_custom_call"' in instruction.text and RULE_KERNEL in instruction.name:
            seconds = _rule_cycles(instruction) / self.slice.chip.clock_hz
            total.kernels += seconds
            self._pass(total, seconds, instruction.op_name)
        elif 'custom_call_target="tpu_custom_call"' in instruction.text:
            flops = _kernel_flops(instruction)
            if flops is None:
                total.warnings.append(f"a kernel of unknown cost ({instruction.name}) is not counted")
                return
            seconds = flops / (self.slice.chip.peak_flops * KERNEL_EFFICIENCY)
            total.kernels += seconds
            total.kernel_flops += flops
            self._pass(total, seconds, instruction.op_name)
        elif instruction.cycles:
            seconds = instruction.cycles / self.slice.chip.clock_hz
            total.computing += seconds
            self._pass(total, seconds, instruction.op_name)

    def _wait(self, total: Cost, until: float, op_name: str) -> None:
        waited = max(until - total.seconds, 0.0)
        total.waiting += waited
        self._pass(total, waited, op_name, "waiting")

    def _pass(self, total: Cost, seconds: float, op_name: str, kind: str = "") -> None:
        total.seconds += seconds
        total.scopes[kind or _scope(op_name)] += seconds

    def _collectives_in(self, instruction: Instruction) -> dict[str, Instruction]:
        """By name: the collectives that an instruction is, or that its fused computation contains."""
        if collectives.kind_of(instruction):
            return {instruction.name: instruction}
        called = instruction.called("calls") if instruction.opcode in ("fusion", "async-start") else None
        if called is None or called not in self.program.computations:
            return {}
        found = self._fused_collectives(called)
        if called.startswith(collectives.FUSED_REDUCE_SCATTER) and found:
            return {instruction.name: collectives.fused_reduce_scatter(instruction, found[0])}
        return {collectives.asynchronous_name(inner): inner for inner in found}

    @functools.cache  # noqa: B019 - a walker lives as long as one reading
    def _fused_collectives(self, computation: str) -> list[Instruction]:
        found: list[Instruction] = []
        for instruction in self.program.computations[computation]:
            found += self._collectives_in(instruction).values()
        return found

    def _host_copy(self, instruction: Instruction) -> float | None:
        """Seconds of a copy to or from the host's memory, of a whole array or of a slice; None for other copies."""
        here = [array.bytes for array in instruction.arrays if array.memory_space != _HOST_SPACE]
        if len(here) == len(instruction.arrays):
            return None
        return max(here, default=0) / self.slice.chip.host_bytes_per_second

    def _trips(self, loop: Instruction) -> int | None:
        """How often a loop's body runs: the bound that its condition compares with ÷ the step of its counter.

        The compiler may have unrolled a loop: its counter then moves by more than one.
        """
        if loop.trip_count is not None:
            return loop.trip_count
        condition, body = (self.program.computations[loop.called(part) or ""] for part in ("condition", "body"))
        by_name = {instruction.name: instruction for instruction in condition}
        for instruction in condition:
            if instruction.opcode != "compare" or "direction=LT" not in instruction.text:
                continue
            sides = [by_name.get(operand) for operand in instruction.operands]
            bound = next((_constant(side) for side in sides if side is not None and side.opcode == "constant"), None)
            counter = next((side for side in sides if side is not None and side.opcode == "get-tuple-element"), None)
            if bound is None or counter is None:
                continue
            return -(-bound // _step(body, _index(counter)))
        return None


def _step(body: list[Instruction], index: int) -> int:
    """By how much a loop's body moves element `index` of its tuple."""
    by_name = {instruction.name: instruction for instruction in body}
    root = body[-1]
    moved = by_name.get(root.operands[index]) if index < len(root.operands) else None
    while moved is not None and moved.opcode in ("copy", "bitcast", "copy-done", "copy-start"):
        moved = by_name.get(moved.operands[0])
    if moved is None or moved.opcode != "add":
        return 1
    constants = [by_name[operand] for operand in moved.operands if by_name[operand].opcode == "constant"]
    return _constant(constants[0]) or 1 if constants else 1


def _constant(instruction: Instruction) -> int | None:
    found = re.search(r"constant\((\d+)\)", instruction.text)
    return int(found[1]) if found else None


def _index(instruction: Instruction) -> int:
    found = re.search(r"index=(\d+)", instruction.text)
    return int(found[1]) if found else 0


def _kernel_flops(kernel: Instruction) -> float | None:
    """FLOPs that an attention kernel's causal attention needs; None for other kernels."""
    products = next((count for part, count in _KERNEL_PRODUCTS if part in kernel.name), None)
    if products is None:
        return None
    # The first result for each head is [B, H, L, K], or [B, H, K, L] where heads are narrow; L is no less than K. Of a
    # single row it may be without B.
    *heads, length, width = next(array.dims for axes in (4, 3) for array in kernel.arrays if len(array.dims) == axes)
    length, width = max(length, width), min(length, width)
    return products * 2.0 * math.prod(heads) * (length * (length + 1) / 2) * width


def _rule_cycles(kernel: Instruction) -> float:
    """Of the sampling rule's kernel, whose logits are [S, B, V]."""
    found = re.search(r"operand_layout_constraints=\{.*?f32\[\d+,(\d+),(\d+)\]", kernel.text)
    assert found is not None
    rows, tokens = int(found[1]), int(found[2])
    return RULE_CYCLES * math.ceil(rows / 8) * math.ceil(tokens / 1024)


def _scope(op_name: str) -> str:
    """ "jit(train_step)/transpose(jvp())/while/body/closed_call/attention/…" -> "attention", backward or not."""
    parts = re.sub(r"(jit|jvp|transpose|checkpoint|vmap)\(?", "/", op_name)
    named = [scope for scope in ("attention", "feed_forward", "embedding", "loss", "logits") if scope in parts]
    return named[0] if named else "other"
