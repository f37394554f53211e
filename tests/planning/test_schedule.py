"""Reading a program: what runs, how often, what moves, and what of it is hidden. On a text written by hand."""

import numpy as np
import pytest

from cm3leon_jax.model.attention_backward import KERNEL_NAME
from cm3leon_jax.planning import collectives
from cm3leon_jax.planning.chips import parse_slice
from cm3leon_jax.planning.hlo import parse_program
from cm3leon_jax.planning.schedule import KERNEL_EFFICIENCY, RULE_CYCLES, program_cost

SLICE = parse_slice("v5e-16")  # 4 x 4, no rings
CHIP = SLICE.chip
COORDINATES = np.array([[x, y, 0] for x in range(4) for y in range(4)])
PROGRAM = """HloModule step, is_scheduled=true

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %one = s32[]{:T(128)} constant(STEP)
  %next = s32[]{:T(128)} add(%i, %one)
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %y = f32[8]{0} fusion(%x), kind=kLoop, calls=%inner, metadata={op_name="jit(f)/while/body/attention/add"}, \
backend_config={"window_config":{"estimated_cycles":"1500"}}
  ROOT %out = (s32[]{:T(128)}, f32[8]{0}) tuple(%next, %y)
}

%condition (p.1: (s32[], f32[8])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, f32[8]{0}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  %bound = s32[]{:T(128)} constant(12)
  ROOT %less = pred[]{:T(512)} compare(%i.1, %bound), direction=LT
}

%inner (q: f32[8]) -> f32[8] {
  ROOT %q = f32[8]{0} parameter(0)
}

%started (q.1: bf16[256,1024]) -> bf16[1024,1024] {
  %q.1 = bf16[256,1024]{1,0} parameter(0)
  ROOT %gather.1 = bf16[1024,1024]{1,0} all-gather(%q.1), channel_id=7, replica_groups=[4,4]<=[16], dimensions={0}
}

ENTRY %main (a: f32[8], w: bf16[256,1024]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %w = bf16[256,1024]{1,0} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %state = (s32[]{:T(128)}, f32[8]{0}) tuple(%zero, %a)
  %start = (bf16[1024,1024]{1,0}, u32[]{:S(2)}) fusion(%w), kind=kCustom, calls=%started
  %loop = (s32[]{:T(128)}, f32[8]{0}) while(%state), condition=%condition, body=%body
  %done = bf16[1024,1024]{1,0} fusion(%start), kind=kCustom, calls=%started
  %splash_mha_fwd_residuals = (f32[1,8,128]{2,1,0}, bf16[2,4,256,64]{3,2,1,0}, f32[2,4,256,128]{3,2,1,0}) \
custom-call(%done), custom_call_target="tpu_custom_call", frontend_attributes={kernel="first line
second line"}
  %sum = f32[64,1024]{1,0} all-reduce(%done), channel_id=9, replica_groups={{0,4,8,12},{1,5,9,13}}, to_apply=%inner
  ROOT %result = f32[8]{0} get-tuple-element(%loop), index=1
}
"""


def cost(step: int = 1, cycles: int = 1500):
    text = PROGRAM.replace("STEP", str(step)).replace('"1500"', f'"{cycles}"')
    return program_cost(parse_program(text), SLICE, COORDINATES)


def test_loops_count_with_their_trips_also_where_they_were_unrolled():
    assert cost(step=1).computing == pytest.approx(12 * 1500 / CHIP.clock_hz)
    assert cost(step=2).computing == pytest.approx(6 * 1500 / CHIP.clock_hz)
    assert cost().scopes["attention"] == pytest.approx(12 * 1500 / CHIP.clock_hz)


def test_kernels_count_with_the_flops_of_causal_attention():
    flops = 2 * 2.0 * 2 * 4 * (256 * 257 / 2) * 64
    assert cost().kernel_flops == flops
    assert cost().kernels == pytest.approx(flops / (CHIP.peak_flops * KERNEL_EFFICIENCY))


@pytest.mark.parametrize("shape", ["2,4,256,64", "2,4,64,256"])
def test_the_backward_kernel_counts_with_five_products_in_either_layout(shape):
    gradient = f"bf16[{shape}]{{3,2,1,0}}"
    forward = "%splash_mha_fwd_residuals = (f32[1,8,128]{2,1,0}, bf16[2,4,256,64]{3,2,1,0}, f32[2,4,256,128]{3,2,1,0})"
    assert forward in PROGRAM
    text = PROGRAM.replace(forward, f"%transpose_jvp_{KERNEL_NAME}__.1 = ({gradient}, {gradient}, {gradient})")
    found = program_cost(parse_program(text.replace("STEP", "1")), SLICE, COORDINATES)
    assert found.kernel_flops == 5 * 2.0 * 2 * 4 * (256 * 257 / 2) * 64
    assert not found.warnings


def test_a_kernel_of_a_single_row_counts_too():
    results = "(f32[1,8,128]{2,1,0}, bf16[2,4,256,64]{3,2,1,0}, f32[2,4,256,128]{3,2,1,0})"
    assert results in PROGRAM
    text = PROGRAM.replace(results, "(f32[128,128]{1,0}, bf16[4,256,64]{2,1,0}, f32[4,256,128]{2,1,0})")
    found = program_cost(parse_program(text.replace("STEP", "1")), SLICE, COORDINATES)
    assert found.kernel_flops == 2 * 2.0 * 4 * (256 * 257 / 2) * 64


def test_the_kernel_of_the_sampling_rule_counts_with_its_rows_and_tokens():
    rule = "  %sampling_rule.1 = (s32[12,1]{1,0}, f32[12,1]{1,0}) custom-call(%done), "
    rule += 'custom_call_target="tpu_custom_call", '
    rule += "operand_layout_constraints={f32[8]{0}, u32[12,2]{1,0}, f32[2,12,8190]{2,1,0}, f32[2,12,8190]{2,1,0}}\n"
    text = PROGRAM.replace("  %sum = ", f"{rule}  %sum = ").replace("STEP", "1")
    found = program_cost(parse_program(text), SLICE, COORDINATES)
    assert found.kernels - cost().kernels == pytest.approx(2 * 8 * RULE_CYCLES / CHIP.clock_hz)
    assert not found.warnings


def test_a_collective_is_hidden_as_far_as_what_runs_beside_it_lasts():
    rate = CHIP.link_bytes_per_second * collectives.LINK_EFFICIENCY  # one axis, no ring: one link
    gather = 2 * 1024 * 1024 * 3 / 4 / rate
    reduce = 2 * 4 * 64 * 1024 * 3 / 4 / rate
    short, long = cost(cycles=10), cost(cycles=10_000_000)
    assert short.waiting == pytest.approx(gather - 120 / CHIP.clock_hz + reduce)
    assert long.waiting == pytest.approx(reduce)  # this one starts and ends at one place
    assert long.ici_bytes == {"all-gather": 2 * 1024 * 1024 * 3 / 4, "all-reduce": 2 * 4 * 64 * 1024 * 3 / 4}
    assert long.seconds == pytest.approx(long.computing + long.kernels + long.waiting)


@pytest.mark.parametrize(
    "groups, first",
    [
        ("{{0,1},{2,3}}", (0, 1)),
        ("[2,4]<=[8]", (0, 1, 2, 3)),
        ("[4,2]<=[2,4]T(1,0)", (0, 4)),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", (0, 4)),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", (0, 1, 2, 3)),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", tuple(range(8))),
        ("{}", tuple(range(8))),
    ],
)
def test_forms_of_replica_groups(groups, first):
    assert collectives.first_group(f"f32[8] all-reduce(%x), replica_groups={groups}, to_apply=%add", 8) == first


def test_between_slices_each_chip_sends_its_share():
    two = parse_slice("2xv5e-16")
    places = np.array([[x, y, number] for number in range(2) for x in range(4) for y in range(4)])
    text = PROGRAM.replace("replica_groups={{0,4,8,12},{1,5,9,13}}", "replica_groups={}").replace("STEP", "1")
    reduced = 4 * 64 * 1024
    found = program_cost(parse_program(text), two, places)
    assert found.dcn_bytes["all-reduce"] == pytest.approx(2 * reduced / 16 / 2)
    assert found.ici_bytes["all-reduce"] == pytest.approx(2 * reduced * 15 / 16)


def test_copies_to_the_host_count_with_what_is_moved_one_after_the_other():
    stack, part = "bf16[24,1024,1024]{2,1,0:S(5)}", "bf16[1,1024,1024]{2,1,0}"
    copies = "\n".join(
        f"  %start.{number} = (({stack}, {part}), {stack}, u32[]) dynamic-update-slice-start(%stack.{number}, %a)\n"
        for number in range(2)
    )
    waits = "\n".join(f"  %done.{n} = {stack} dynamic-update-slice-done(%start.{n})" for n in range(2))
    text = PROGRAM.replace("  %sum =", f"{copies}{waits}\n  %sum =").replace("STEP", "1")
    seconds = 2 * 1024 * 1024 / CHIP.host_bytes_per_second
    waiting = program_cost(parse_program(text), SLICE, COORDINATES).waiting - cost().waiting
    assert waiting == pytest.approx(2 * seconds, rel=1e-3)
