"""Files as `torch.save` makes them, put together by hand, without PyTorch; and others, which it never makes."""

import pathlib
import zipfile
from typing import Any

from cm3leon_jax.runtime.torch_legacy import MAGIC


class Raw(bytes):
    """Opcodes that stand for a value."""


def pickled(value: Any) -> Raw:
    """The opcodes of protocol 2 for tuples, lists, dicts, strings and whole numbers, with raw ones among them."""
    match value:
        case Raw():
            return value
        case None | bool():
            return Raw({None: b"N", True: b"\x88", False: b"\x89"}[value])
        case int():
            digits = value.to_bytes(16, "little", signed=True)
            return Raw(b"\x8a\x10" + digits)
        case str():
            text = value.encode()
            return Raw(b"X" + len(text).to_bytes(4, "little") + text)
        case tuple():
            return Raw(b"(" + b"".join(map(pickled, value)) + b"t")
        case list():
            return Raw(b"](" + b"".join(map(pickled, value)) + b"e")
        case dict():
            return Raw(b"}(" + b"".join(pickled(part) for pair in value.items() for part in pair) + b"u")
    raise TypeError(type(value))


def call(function: str, *arguments: Any) -> Raw:
    """`function` as "module name", separated by a line's end as in the opcode."""
    return Raw(b"c" + function.encode() + b"\n" + pickled(arguments) + b"R")


def storage(*, key: Any = "0", kind: Any = "torch\nFloatStorage", elements: Any = 6) -> Raw:
    named = Raw(b"c" + kind.encode() + b"\n")
    return Raw(pickled(("storage", named, key, "cpu", elements)) + b"Q")


def tensor(*, offset: Any = 0, shape: Any = (2, 3), strides: Any = (3, 1), **kept: Any) -> Raw:
    return call("torch._utils\n_rebuild_tensor_v2", storage(**kept), offset, shape, strides, False, {})


def write_legacy(
    path: pathlib.Path, contents: Any, storages: dict[str, tuple[int, bytes]], *, magic: int = MAGIC
) -> None:
    """A file as PyTorch made them before 1.6: pickles, then the storages (numbers of elements, bytes)."""
    machine = {"protocol_version": 1001, "little_endian": True}
    with open(path, "wb") as file:
        number = Raw(b"\x8a\x0a" + magic.to_bytes(10, "little"))
        for value in (number, 1001, machine, contents, list(storages)):
            file.write(b"\x80\x02" + pickled(value) + b".")
        for elements, data in storages.values():
            file.write(elements.to_bytes(8, "little", signed=True) + data)


def write(
    path: pathlib.Path, contents: Any, storages: dict[str, bytes], members: dict[str, bytes] | None = None
) -> pathlib.Path:
    """An archive of `contents`, or of the pickle that `contents` is, with the storages' bytes."""
    pickle = contents if type(contents) is bytes else b"\x80\x02" + pickled(contents) + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        for name, data in (members or {}).items():
            archive.writestr(name, data)
    return path
