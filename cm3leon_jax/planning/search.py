"""Looks for the fastest way to run a model on a slice: rows at once, and what is saved for the backward pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.model.remat import KEPT
from cm3leon_jax.planning.chips import GIB, Slice
from cm3leon_jax.planning.compile import DoesNotFit, PlannedRun
from cm3leon_jax.planning.plan import plan_training
from cm3leon_jax.runtime.errors import UserError


def fastest(run: PlannedRun, slice_: Slice, steps: int) -> dict[str, Any]:
    """The plan with the shortest step of all that fit. Prints a line for each one compiled. UserError: none fits."""
    best: dict[str, Any] | None = None
    for candidate in candidates(run, slice_):
        label = f"{candidate.step.per_device_batch_size} rows at once, remat {candidate.model.remat}"
        try:
            plan = plan_training(candidate, slice_, steps)
        except DoesNotFit as error:
            print(f"  {label}: {error}", flush=True)
            continue
        print(
            f"  {label}: MFU {plan['predicted_mfu']:.1%}, {plan['hbm_bytes_per_chip'] / GIB:.1f} GiB, "
            f"{plan['predicted_step_seconds']:.3f} s",
            flush=True,
        )
        if best is None or plan["predicted_step_seconds"] < best["predicted_step_seconds"]:
            best = plan
    if best is None:
        raise UserError(f"nothing fits {slice_.name}; take a larger slice")
    return best


def candidates(run: PlannedRun, slice_: Slice) -> Iterator[PlannedRun]:
    """Every number of rows at once with, for each, the policies that save most and are likely to fit."""
    rows = run.batch_size // slice_.chips
    for at_once in (size for size in (1, 2, 4, 8, 16) if rows % size == 0):
        likely = [policy for policy in KEPT if kept_bytes(run, at_once, policy) < slice_.chip.hbm_bytes]
        for policy in likely[:2]:
            yield dataclasses.replace(
                run,
                model=dataclasses.replace(run.model, remat=policy),
                step=dataclasses.replace(run.step, per_device_batch_size=at_once),
            )


def kept_bytes(run: PlannedRun, rows: int, policy: str) -> int:
    """Bytes that a policy keeps for the backward pass of `rows` rows: a lower bound of what a program needs."""
    return 2 * KEPT[policy] * rows * run.length * run.model.d_model * run.model.num_layers
