"""A plan: what a training run needs and how fast it will be on a slice, from its compiled step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from cm3leon_jax.model.config import training_flops_per_token
from cm3leon_jax.planning.chips import GIB, Slice
from cm3leon_jax.planning.compile import compile_training_step, compiler_versions
from cm3leon_jax.planning.run import PlannedRun
from cm3leon_jax.planning.schedule import KERNEL_EFFICIENCY


def plan_training(run: PlannedRun, slice_: Slice, steps: int) -> dict[str, Any]:
    """Compiles the step and returns the plan of a run of `steps`, JSON-able. Raises DoesNotFit.

    MFU counts the model's FLOPs (`training_flops_per_token`), `flops_per_chip` those of one step.
    """
    program = compile_training_step(run, slice_)
    tokens = run.batch_size * run.length
    flops = training_flops_per_token(run.model, run.length) * tokens / slice_.chips
    cost = program.cost
    return {
        "slice": slice_.name,
        "chips": slice_.chips,
        "hbm_bytes_per_chip": program.peak_bytes,
        "hbm_capacity_bytes": slice_.chip.usable_hbm_bytes,
        "hbm": {"arguments": program.argument_bytes, "temporaries": program.temporary_bytes},
        "flops_per_chip": flops,
        "collective_bytes": {"ici": _sorted(cost.ici_bytes), "dcn": _sorted(cost.dcn_bytes)},
        "predicted_step_seconds": cost.seconds,
        "seconds": {"computing": cost.computing, "kernels": cost.kernels, "waiting": cost.waiting},
        "predicted_mfu": flops / slice_.chip.peak_flops / cost.seconds,
        "tokens_per_second_per_chip": tokens / slice_.chips / cost.seconds,
        "days": steps * cost.seconds / 86_400,
        "steps": steps,
        "tokens_per_step": tokens,
        "compile_seconds": program.seconds,
        "versions": compiler_versions(),
        "settings": settings_of(run, slice_),
        "warnings": list(cost.warnings),
    }


def settings_of(run: PlannedRun, slice_: Slice) -> dict[str, Any]:
    """What a user may turn, of a plan."""
    return {
        "batch_size": run.batch_size,
        "per_device_batch_size": run.rows_at_once(slice_),
        "loss_chunk": run.step.loss_chunk,
        "remat": run.model.remat,
        "mesh": dict(zip(dataclasses.asdict(run.mesh), run.mesh.sizes(slice_.chips), strict=True)),
        "embed": run.rules.embed,
        "compiler_options": dict(run.compiler_options),
    }


def describe(plan: dict[str, Any]) -> str:
    """The plan as a table for the terminal."""
    settings, seconds = plan["settings"], plan["seconds"]
    rows = plan["settings"]["batch_size"] / plan["chips"]
    mesh = " x ".join(f"{size} {axis}" for axis, size in settings["mesh"].items() if size != 1)
    moved = [
        f"{kind} {moved / 1e9:.1f} GB ({network.upper()})"
        for network, kinds in plan["collective_bytes"].items()
        for kind, moved in kinds.items()
        if moved >= 5e7
    ]
    lines = [
        ("slice", f"{plan['slice']}, {plan['chips']} chips"),
        (
            "settings",
            f"{rows:g} rows a chip, {settings['per_device_batch_size']} at once, remat {settings['remat']}, mesh "
            f"{mesh or '1'}",
        ),
        (
            "memory a chip",
            f"{plan['hbm_bytes_per_chip'] / GIB:.2f} GiB of {plan['hbm_capacity_bytes'] / GIB:.2f} GiB "
            f"(arguments {plan['hbm']['arguments'] / GIB:.2f})",
        ),
        ("model FLOPs a chip", f"{plan['flops_per_chip'] / 1e12:,.0f} TFLOP a step"),
        ("moved a chip and step", ", ".join(moved) or "nothing"),
        (
            "predicted step",
            f"{plan['predicted_step_seconds']:.3f} s: computing {seconds['computing']:.3f}, attention kernels "
            f"{seconds['kernels']:.3f} (at {KERNEL_EFFICIENCY:.0%} of peak), waiting for network and host "
            f"{seconds['waiting']:.3f}",
        ),
        ("predicted MFU", f"{plan['predicted_mfu']:.1%}"),
        ("speed", f"{plan['tokens_per_second_per_chip']:,.0f} tokens a second and chip"),
        (
            "whole run",
            f"{plan['days']:.1f} days for {plan['steps']:,} steps of {plan['tokens_per_step'] / 1e6:.1f}M tokens",
        ),
        ("compiled in", f"{plan['compile_seconds']:.0f} s"),
    ]
    if "changes" in plan:
        lines.append(("to be set", "; ".join(plan["changes"]) or "nothing: the gin files as they are"))
    return table(lines, plan["warnings"])


def table(lines: Sequence[tuple[str, str]], warnings: Sequence[str]) -> str:
    """Names with their texts in two columns, and the warnings below them."""
    width = max(len(name) for name, _ in lines)
    return "\n".join([*(f"{name:{width}}  {text}" for name, text in lines), *(f"note: {text}" for text in warnings)])


def _sorted(moved: dict[str, float]) -> dict[str, float]:
    return {kind: moved[kind] for kind in sorted(moved) if moved[kind] > 0}
