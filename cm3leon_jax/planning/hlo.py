"""Reads the text of a compiled program: computations, their instructions as scheduled, shapes, bytes."""

from __future__ import annotations

import dataclasses
import functools
import math
import re

_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}  # others say their width: f32, s8, u64, f8e4m3fn
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.\-]+) \(")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array's element type, dimensions and layout text, `{2,1,0:T(8,128)}`."""

    dtype: str
    dims: tuple[int, ...]
    layout: str = ""

    @property
    def bytes(self) -> int:
        width = _BITS.get(self.dtype)
        if width is None:
            width = int(re.match(r"[a-z]+(\d+)", self.dtype)[1])  # type: ignore[index]
        return math.prod(self.dims) * width // 8

    @property
    def memory_space(self) -> int:
        """0: HBM; 5: the host's memory; others lie on the chip."""
        found = re.search(r"S\((\d+)\)", self.layout)
        return int(found[1]) if found else 0


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction. `text` is all of its line, from which what is needed is read on demand."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]  # of its result: several for a tuple
    operands: tuple[str, ...]
    text: str

    @property
    def bytes(self) -> int:
        return sum(array.bytes for array in self.arrays)

    @functools.cached_property
    def op_name(self) -> str:
        """Where in the model it comes from: "jit(train_step)/…/attention/dot_general"."""
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else ""

    @functools.cached_property
    def cycles(self) -> int | None:
        """The compiler's own estimate."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.text)
        return int(found[1]) if found else None

    def called(self, attribute: str) -> str | None:
        """The computation that `attribute` ("calls", "body", "condition", "to_apply") names."""
        found = re.search(rf"\b{attribute}=%([\w.\-]+)", self.text)
        return found[1] if found else None

    @property
    def branches(self) -> list[str]:
        """The computations of a conditional."""
        found = re.search(r"branch_computations=\{([^}]*)\}", self.text)
        if found:
            return re.findall(r"%([\w.\-]+)", found[1])
        return [name for name in map(self.called, ("true_computation", "false_computation")) if name]

    @property
    def trip_count(self) -> int | None:
        """Of a loop, where the compiler knows it."""
        found = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', self.text)
        return int(found[1]) if found else None


@dataclasses.dataclass(frozen=True)
class Program:
    """Computations by name, each a list of instructions in the order of the schedule."""

    computations: dict[str, list[Instruction]]
    entry: str


def parse_program(text: str) -> Program:
    """The text of a compiled module (`compiled.as_text()`). ValueError: no entry computation."""
    computations: dict[str, list[Instruction]] = {}
    entry, current, pending = "", None, ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif current is None:
            continue
        elif _INSTRUCTION.match(line) or line == "}":
            if pending:
                current.append(_instruction(pending))
            pending = "" if line == "}" else line
            current = None if line == "}" else current
        else:  # kernels carry text of several lines
            pending += line
    if not entry:
        raise ValueError("not the text of a compiled program: it has no entry computation")
    return Program(computations, entry)


def _instruction(line: str) -> Instruction:
    head = _INSTRUCTION.match(line)
    assert head is not None
    rest = line[head.end() :]
    result_end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opcode = _OPCODE.match(rest, result_end)
    assert opcode is not None, line[:200]
    operands = rest[opcode.end() : _closing(rest, opcode.end() - 1)]
    return Instruction(
        name=head[2],
        opcode=opcode[1],
        arrays=_arrays(rest[:result_end]),
        operands=tuple(re.findall(r"%([\w.\-]+)", operands)),
        text=rest,
    )


def _arrays(text: str) -> tuple[Array, ...]:
    return tuple(
        Array(dtype, tuple(int(size) for size in dims.split(",") if size), layout or "")
        for dtype, dims, layout in _ARRAY.findall(text)
    )


def _closing(text: str, start: int) -> int:
    """The place of the bracket that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place
    raise ValueError(f"brackets that do not close: {text[:80]}")
