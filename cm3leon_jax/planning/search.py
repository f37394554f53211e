"""Looks for the fastest way to run a model on a slice: rows at once, what is saved for the backward pass, the mesh."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from cm3leon_jax.model.config import parameter_count
from cm3leon_jax.model.partitioning import MeshConfig, axes_of
from cm3leon_jax.model.remat import KEPT
from cm3leon_jax.planning.chips import GIB, Slice
from cm3leon_jax.planning.compile import DoesNotFit
from cm3leon_jax.planning.plan import plan_training, smaller_runs
from cm3leon_jax.planning.run import PlannedRun
from cm3leon_jax.runtime.errors import UserError

Found = tuple[PlannedRun, dict[str, Any]]  # a run that fits, and its plan

_ROWS = (16, 8, 4, 2, 1)  # at once
_STATE_BYTES = 12  # a parameter: float32, and AdamW's two moments
_TENSOR_SHARDS = (1, 2, 4)  # more only where a copy of the model has no other room; name them with MeshConfig.tensor


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
            if _may_fit(candidate, slice_) and (each := _planned(candidate, run, slice_, steps)):
                found.append(each)
                held = at_once
                break
    return found


def meshes(run: PlannedRun, slice_: Slice) -> Iterator[PlannedRun]:
    """The same rows a chip on other meshes that are likely to fit: with tensor shards; with parameters split over all
    chips of a slice, over those along one axis of its network, or copied to each."""
    along = slice_.shape[-1]
    shards = run.shards(slice_, "tensor")
    for tensor in _TENSOR_SHARDS:
        if run.model.num_heads % tensor or along % tensor or run.batch_size * tensor % slice_.chips:
            continue
        mesh = MeshConfig(slice_.slices, slice_.chips_per_slice // along, along // tensor, tensor)
        step = dataclasses.replace(run.step, per_device_batch_size=run.step.per_device_batch_size * tensor // shards)
        for embed in (("data", "fsdp"), "fsdp", None):
            other = dataclasses.replace(run, mesh=mesh, step=step, rules=dataclasses.replace(run.rules, embed=embed))
            given = mesh.sizes(slice_.chips) == run.mesh.sizes(slice_.chips) and embed == run.rules.embed
            if not given and _may_fit(other, slice_):
                yield other


def least_bytes(run: PlannedRun, slice_: Slice) -> float:
    """Bytes that a chip needs at least: its share of the state, and what the policy keeps of the rows at once."""
    kept = 2 * KEPT.get(run.model.remat, 0) * run.rows_at_once(slice_)
    activations = kept * run.length * run.model.d_model * run.model.num_layers / run.shards(slice_, "tensor")
    state = _STATE_BYTES * parameter_count(run.model)
    return state / run.shards(slice_, (*axes_of(run.rules.embed), "tensor")) + activations


def _may_fit(run: PlannedRun, slice_: Slice) -> bool:
    return least_bytes(run, slice_) < slice_.chip.usable_hbm_bytes


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
