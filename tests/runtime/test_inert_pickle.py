import collections
import pathlib
import pickle
import random
import subprocess
import sys

import pytest

from cm3leon_jax.runtime.inert_pickle import Call, Global, read_pickle

SHARED = [1, 2]
VALUES = [
    {"a": [1, -1, 255, 65_535, 1 << 31, 1 << 70, -(1 << 70)], "b": (), "c": (1,), "d": (1, 2), "e": (1, 2, 3)},
    {"f": (1, 2, 3, 4), "g": [[], [{}]], "h": {"x": None, "y": True, "z": False}, "ü\n": "\u20ac\x00", "": b"\xff\x00"},
    [0.1, -1e300, float("inf"), "s" * 300, b"s" * 300, SHARED, SHARED],
    list(range(2000)),
    {str(number): number for number in range(2000)},
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_equal_those_of_unpickling(protocol):
    for value in VALUES[: 2 if protocol < 3 else None]:  # before, bytes are made by a call
        if protocol < 3:
            value = {key: part for key, part in value.items() if not isinstance(part, bytes)}
        assert read_pickle(pickle.dumps(value, protocol)) == value
    assert read_pickle(pickle.dumps(VALUES[3:], protocol)) == VALUES[3:]
    assert read_pickle(pickle.dumps(bytearray(b"ab"), 5)) == b"ab"
    assert read_pickle(pickle.dumps(collections.OrderedDict(a=1, b=2), protocol)) == {"a": 1, "b": 2}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_else_stays_a_description(protocol):
    value = {"path": pathlib.PurePosixPath("a/b"), "type": random.Random, "set": {1, 2}, "frozen": frozenset("a")}
    value |= {"random": random.Random(0), "complex": 1j, 3: "not a string", "last": 7}
    found = read_pickle(pickle.dumps(value, protocol))
    assert found.keys() == {"path", "type", "set", "frozen", "random", "complex", "last"}
    assert isinstance(found["type"], Global) and found["type"].name == "random.Random"
    assert found["complex"].calls("builtins.complex") or found["complex"].calls("__builtin__.complex")
    assert all(isinstance(found[name], Call) for name in ("path", "set", "frozen", "random", "complex"))
    assert found["last"] == 7


def test_nothing_is_called(tmp_path):
    for function in (b"cos\nsystem\n", b"\x8c\x02os\x8c\x06system\x93"):
        command = f"touch {tmp_path}/made".encode()
        found = read_pickle(b"\x80\x04" + function + b"X" + len(command).to_bytes(4, "little") + command + b"\x85R.")
        assert found.calls("os.system")
    assert isinstance(read_pickle(b"(S'true'\nios\nsystem\n."), Call)  # as protocol 0 has it
    assert isinstance(read_pickle(b"(cos\nsystem\nS'true'\no."), Call)
    assert not (tmp_path / "made").exists()


BROKEN = [b"", b".", b"\x80\x04", b"0.", b"t.", b"N", b"Nt.", b"h\x05.", b"R.", b"(o.", b"]]R", b"q\x00.", b"\x86."]
BROKEN += [b"X\xff\xff\xff\xffabc.", b"\x8b\xff\xff\xff\x7fabc.", b"I1x\n.", b"I" + b"9" * 5000 + b"\n.", b"\x82\x01."]
BROKEN += [b"}(Nu.", b"cos\n.", b"NN\x93.", b"\xff.", b"X\x01\x00\x00\x00\xff.", b"\x97.", b"s.", b"e.", b"u.", b"b."]
BROKEN += [b"\x8c\xc8" + b"m" * 200 + b"2\x93."]


@pytest.mark.parametrize("data", BROKEN)
def test_broken_ones(data):
    with pytest.raises(ValueError):
        read_pickle(data)


# Each of these grows without bounds, or overflows C's stack, where what is built is copied, hashed or compared.
LARGE = r"""
import resource, sys
from cm3leon_jax.runtime.inert_pickle import read_pickle
resource.setrlimit(resource.RLIMIT_CPU, (100, 100))  # seconds of the processor: some are taken, by quadratic time 500
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))  # bytes
count = 500_000
long = b"X" + (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20)
opcodes = [
    b")" + b"\x85" * count,  # ((((…),),),)
    b"]" + b"2a" * count,  # a list in itself
    b"(" + b")" * count + b"tq\x00" + b"h\x00h\x00\x86q\x00" * count,  # each tuple holds the one before twice
    b"}" + b"]" * count + b"s" * (count // 2),
    b"}(" + long + b"q\x000" + b"h\x00N" * count + b"u",
    b"ccollections\nOrderedDict\nq\x00]q\x01(" + b"N" * count + b"e\x85q\x02" + b"0h\x00h\x02R" * count,
    b"\x8c\xffm" + b"m" * 254 + b"q\x00" + b"h\x00h\x00\x93" * count,
][int(sys.argv[1])]
try:
    read_pickle(opcodes + b".")
except ValueError:
    pass
"""


@pytest.mark.parametrize("number", range(7))
def test_time_and_memory_stay_in_proportion(number):
    command = [sys.executable, "-c", LARGE, str(number)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_random_opcodes():
    rng = random.Random(0)
    opcodes = [b"(", b".", b"0", b"1", b"2", b"K\x01", b"N", b"]", b"}", b")", b"\x8f", b"\x90", b"\x91", b"\x85"]
    opcodes += [
        b"\x86",
        b"\x87",
        b"t",
        b"l",
        b"d",
        b"a",
        b"e",
        b"s",
        b"u",
        b"q\x00",
        b"h\x00",
        b"\x94",
        b"R",
        b"b",
        b"\x81",
    ]
    opcodes += [b"\x92", b"Q", b"\x93", b"ca\nb\n", b"ia\nb\n", b"o", b"X\x01\x00\x00\x00a", b"\x8c\x01b"]
    outcomes = collections.Counter()
    for _ in range(20_000):
        data = b"".join(rng.choices(opcodes, k=rng.randrange(1, 40))) + b"."
        try:
            read_pickle(data)
            outcomes["read"] += 1
        except ValueError:
            outcomes["refused"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 200
