"""What `/proc/cpuinfo` of several processors says, shortened to the lines and flags that differ."""

import pytest

from cm3leon_jax.runtime import processor as module
from cm3leon_jax.runtime.processor import Processor, parse_cpuinfo, processor

ZEN_2 = """\
processor	: 0
vendor_id	: AuthenticAMD
cpu family	: 23
model		: 49
model name	: AMD EPYC 7B12
stepping	: 0
cpu MHz		: 2249.998
flags		: fpu sse sse2 pni ssse3 fma sse4_1 sse4_2 avx f16c avx2 sha_ni
bugs		: sysret_ss_attrs spectre_v1 spectre_v2

processor	: 1
vendor_id	: AuthenticAMD
model name	: another core
flags		: fpu amx_bf16
"""
ZEN_4 = """\
processor	: 0
vendor_id	: AuthenticAMD
cpu family	: 25
model		: 17
model name	: AMD EPYC 9R14
flags		: fpu fma avx f16c avx2 avx512f avx512dq avx512bw avx512vl avx512_bf16 avx512vbmi avx512_vnni
"""
SKYLAKE = """\
processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) CPU @ 2.00GHz
flags		: fpu fma avx f16c avx2 avx512f avx512dq avx512cd avx512bw avx512vl
vmx flags	: vnmi preemption_timer bf16
"""
SAPPHIRE_RAPIDS = """\
processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags		: fpu fma avx f16c avx2 avx512f avx_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8
"""
AMX_ALONE = """\
vendor_id	: GenuineIntel
model name	: a processor with tiles and without AVX-512's bfloat16
flags		: fpu avx avx2 amx_bf16 amx_tile
"""
SIERRA_FOREST = """\
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) 6780E
flags		: fpu fma avx f16c avx2 avx_vnni avx_vnni_int8 avx_ne_convert avx_ifma
"""
GRAVITON_2 = """\
processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x3
CPU part	: 0xd0c
CPU revision	: 1
"""
GRAVITON_3 = """\
processor	: 0
BogoMIPS	: 2100.00
Features	: fp asimd evtstrm aes fphp asimdhp asimddp sve asimdfhm svei8mm svebf16 i8mm bf16 dgh rng
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x1
CPU part	: 0xd40
CPU revision	: 1

processor	: 1
BogoMIPS	: 2100.00
Features	: fp
"""


@pytest.mark.parametrize(
    "text, native",
    [
        (ZEN_2, False),
        (ZEN_4, True),
        (SKYLAKE, False),
        (SAPPHIRE_RAPIDS, True),
        (AMX_ALONE, True),
        (SIERRA_FOREST, False),
        (GRAVITON_2, False),
        (GRAVITON_3, True),
    ],
)
def test_which_processors_multiply_bfloat16(text, native):
    assert parse_cpuinfo(text).native_bfloat16 is native


def test_the_first_processor_of_x86():
    flags = "avx avx2 f16c fma fpu pni sha_ni sse sse2 sse4_1 sse4_2 ssse3"
    assert parse_cpuinfo(ZEN_2) == Processor("AMD EPYC 7B12", tuple(flags.split()), "AuthenticAMD")


def test_the_first_processor_of_arm():
    found = parse_cpuinfo(GRAVITON_3)
    assert found.model == ("CPU implementer 0x41 CPU architecture 8 CPU variant 0x1 CPU part 0xd40 CPU revision 1")
    assert found.vendor == "0x41"
    assert "svebf16" in found.flags and found.flags == tuple(sorted(found.flags))


def test_another_kind_without_known_fields_has_all_its_lines_as_model():
    assert parse_cpuinfo("cpu\t: POWER9\nmachine\t: IBM\n") == Processor("cpu : POWER9 machine : IBM")


def test_without_cpuinfo_there_are_no_flags(monkeypatch):
    monkeypatch.setattr(module.pathlib.Path, "exists", lambda self: False)
    monkeypatch.setattr(module.platform, "processor", lambda: "")
    monkeypatch.setattr(module.platform, "machine", lambda: "arm64")
    assert processor() == Processor("arm64")
    assert not processor().native_bfloat16
