"""What a pickle describes, without unpickling it: nothing that it names is imported or called.

Its opcodes are walked on a stack. Containers, numbers and strings come out as themselves; classes, calls and
persistent ids as inert descriptions of them. Time and memory are in proportion to the pickle's length, whoever wrote
it: no opcode copies, hashes or compares what others have built.
"""

from __future__ import annotations

import dataclasses
import pickletools
from typing import Any, BinaryIO

_LONGEST_NAME = 300  # characters of a class with its module; one opcode may join long strings again and again
_LONGEST_KEY = 1000  # characters; equal keys are compared in full each time one is set
# Opcodes whose argument is the number or string itself: BININT1, SHORT_BINUNICODE, ….
_LITERALS = frozenset(
    opcode.name
    for opcode in pickletools.opcodes
    if opcode.arg and not opcode.stack_before and opcode.stack_after not in ([], [pickletools.anyobject])
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Global:
    """A class or function that the pickle names."""

    name: str  # with its module: "torch.FloatStorage"


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Call:
    """A call that unpickling would make. Whatever would be done to its result afterwards is left out."""

    function: Any  # a Global, where the pickle is sound
    arguments: Any  # a tuple, where the pickle is sound

    def calls(self, name: str) -> bool:
        return isinstance(self.function, Global) and self.function.name == name


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Persistent:
    """A reference to what lies beside the pickle."""

    id: Any


def read_pickle(pickle: bytes | BinaryIO) -> Any:
    """The object that a pickle describes; a file is left behind the pickle's end.

    Dicts keep only keys that are strings, and not very long; sets come out as a `Call` without contents. Raises
    `ValueError`.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            machine.step(opcode.name, argument)
        return machine.stack[-1]
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"a broken pickle: {type(error).__name__}") from None


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """One opcode. Raises IndexError, KeyError or TypeError on what does not fit the stack."""
        push, pop = self.stack.append, self.stack.pop
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _ if name in _LITERALS:
                push(argument)
            case _ if name in _CONSTANTS:
                push(_CONSTANTS[name])
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "DUP":
                push(self.stack[-1])
            case "POP" if self.stack:
                pop()
            case "POP" | "POP_MARK":
                self._since_mark()
            case "BUILD":
                pop()
            case "PERSID":
                push(Persistent(argument))
            case "BINPERSID":
                push(Persistent(pop()))
            case _:
                if not self._containers(name):
                    self._calls(name, argument)

    def _containers(self, name: str) -> bool:
        push, pop = self.stack.append, self.stack.pop
        match name:
            case "EMPTY_DICT":
                push({})
            case "EMPTY_LIST":
                push([])
            case "EMPTY_TUPLE":
                push(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple([pop() for _ in range(int(name[-1]))][::-1]))
            case "TUPLE":
                items = self._since_mark()
                self.stack.append(tuple(items))
            case "LIST":
                items = self._since_mark()
                self.stack.append(items)
            case "DICT":
                items = self._since_mark()
                self.stack.append({})
                self._set(items)
            case "APPEND":
                self._extend([pop()])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._since_mark())
            case "SETITEM":
                value, key = pop(), pop()
                self._set([key, value])
            case "SETITEMS":
                self._set(self._since_mark())
            case "EMPTY_SET":
                push(Call(Global("builtins.set"), ()))
            case "FROZENSET":
                self._since_mark()
                self.stack.append(Call(Global("builtins.frozenset"), ()))
            case _:
                return False
        return True

    def _calls(self, name: str, argument: Any) -> None:
        push, pop = self.stack.append, self.stack.pop
        match name:
            case "GLOBAL":
                push(_named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                last, module = pop(), pop()
                push(_named(module, last))
            case "REDUCE" | "NEWOBJ":
                arguments, function = pop(), pop()
                push(_called(function, arguments))
            case "NEWOBJ_EX":
                _, arguments, function = pop(), pop(), pop()
                push(_called(function, arguments))
            case "INST":
                self._since_mark()
                self.stack.append(Call(_named(*argument.split(" ", 1)), ()))
            case "OBJ":
                function, *arguments = self._since_mark()
                self.stack.append(Call(function, tuple(arguments)))
            case _:
                raise ValueError(f"the opcode {name}, which is not expected here")

    def _since_mark(self) -> list[Any]:
        """What was pushed since the last mark, which goes."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):  # else a description, which stays as it is
            self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            pairs = zip(items[::2], items[1::2], strict=True)
            target.update((key, value) for key, value in pairs if isinstance(key, str) and len(key) <= _LONGEST_KEY)


def _named(module: Any, name: Any) -> Global:
    if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > _LONGEST_NAME:
        raise ValueError("a class or function without a proper name")
    return Global(f"{module}.{name}")


def _called(function: Any, arguments: Any) -> Any:
    call = Call(function, arguments)
    return {} if call.calls("collections.OrderedDict") and arguments == () else call
