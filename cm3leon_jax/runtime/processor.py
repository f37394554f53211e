"""The processor that this process runs on: its model and its instruction set extensions, as Linux names them."""

from __future__ import annotations

import dataclasses
import pathlib
import platform

# One of these flags means instructions that multiply bfloat16 numbers and add up in float32. `avx_ne_convert` is not
# among them: it converts and does not multiply.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclasses.dataclass(frozen=True)
class Processor:
    """`flags` are sorted: `flags` of x86, `Features` of Arm. Empty where the system does not list them."""

    model: str
    flags: tuple[str, ...] = ()
    vendor: str = ""

    @property
    def native_bfloat16(self) -> bool:
        """Whether it multiplies bfloat16 numbers without converting them to float32 first."""
        return not _BFLOAT16.isdisjoint(self.flags)


def processor() -> Processor:
    """Of the machine's first core. Systems other than Linux give a model at most."""
    path = pathlib.Path("/proc/cpuinfo")
    if path.exists():
        return parse_cpuinfo(path.read_text())
    return Processor(platform.processor() or platform.machine())


def parse_cpuinfo(text: str) -> Processor:
    """The text of `/proc/cpuinfo` -> its first processor."""
    first = text.strip().split("\n\n")[0]
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    # Arm has numbers in place of a name: "CPU implementer", "CPU part", "CPU revision" and others.
    numbers = " ".join(f"{name} {value}" for name, value in fields.items() if name.startswith("CPU "))
    return Processor(
        model=fields.get("model name") or numbers or " ".join(first.split()),
        flags=tuple(sorted({*fields.get("flags", "").split(), *fields.get("Features", "").split()})),
        vendor=fields.get("vendor_id") or fields.get("CPU implementer", ""),
    )
