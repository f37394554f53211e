"""Looks for a way to run a model on a slice by compiling what may fit: the fastest one, or the one nearest to the run.

What is turned: rows at once, what is saved for the backward pass, the mesh."""

from __future__ import annotations

import dataclasses
from typing import Any

from cm3leon_jax.model.remat import KEPT
from cm3leon_jax.planning.candidates import may_fit, meshes, smaller_runs
from cm3leon_jax.planning.chips import GIB, Slice
from cm3leon_jax.planning.compile import DoesNotFit
from cm3leon_jax.planning.plan import plan_training
from cm3leon_jax.planning.run import PlannedRun
from cm3leon_jax.runtime.errors import UserError

Found = tuple[PlannedRun, dict[str, Any]]  # a run that fits, and its plan

_ROWS = (16, 8, 4, 2, 1)  # at once


def fastest(run: PlannedRun, slice_: Slice, steps: int) -> dict[str, Any]:
    """The plan with the shortest step of all that fit; its `changes` are the gin bindings that make it of `run`.

    First rows at once and remat policies on the given mesh, then other meshes with the fastest of those. Prints a line
    for each one compiled. UserError: none fits.
    """
    found = fitting(run, slice_, steps)
    start = min(found, key=_seconds)[0] if found else [run, *smaller_runs(run, slice_)][-1]
    found += [each for other in meshes(start, slice_) if (each := _planned(other, run, slice_, steps))]
    if not found:
        raise UserError(f"nothing fits {slice_.name}; take a larger slice")
    best, plan = min(found, key=_seconds)
    return plan | {"changes": best.changes(run)}


def smallest_change(run: PlannedRun, slice_: Slice, steps: int) -> dict[str, Any] | None:
    """The plan of the first of `smaller_runs` that fits, with its `changes`; None: no change but a larger slice helps.

    Prints a line for each one compiled.
    """
    for smaller in smaller_runs(run, slice_):
        if found := _planned(smaller, run, slice_, steps):
            return found[1] | {"changes": smaller.changes(run)}
    return None


def fitting(run: PlannedRun, slice_: Slice, steps: int) -> list[Found]:
    """For each remat policy the most rows at once that fit, from the policy that saves most to the one that saves
    least; only more rows than the policies before it could hold.

    Taken for granted: of two runs that fit, one that neither computes more again nor gathers the parameters for fewer
    rows is no slower. So a policy that saves less is worth a compilation only with more rows.
    """
    rows = run.batch_size // run.batch_shards(slice_)
    found, held = [], 0
    for policy in KEPT:
        for at_once in (size for size in _ROWS if size > held and rows % size == 0):
            step = dataclasses.replace(run.step, per_device_batch_size=at_once)
            candidate = dataclasses.replace(run, model=dataclasses.replace(run.model, remat=policy), step=step)
            if may_fit(candidate, slice_) and (each := _planned(candidate, run, slice_, steps)):
                found.append(each)
                held = at_once
                break
    return found


def _planned(run: PlannedRun, given: PlannedRun, slice_: Slice, steps: int) -> Found | None:
    """The run with its plan, if it fits."""
    print(f"  {', '.join(run.changes(given)) or 'as given'}: ", end="", flush=True)
    try:
        plan = plan_training(run, slice_, steps)
    except DoesNotFit as error:
        print(error, flush=True)
        return None
    memory = f"{plan['hbm_bytes_per_chip'] / GIB:.1f} GiB"
    print(f"MFU {plan['predicted_mfu']:.1%}, {memory}, {plan['predicted_step_seconds']:.3f} s", flush=True)
    return run, plan


def _seconds(found: Found) -> float:
    return found[1]["predicted_step_seconds"]
