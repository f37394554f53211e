"""Other ways to do a training run on a slice, which the planner may compile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from cm3leon_jax.model.config import parameter_count
from cm3leon_jax.model.partitioning import MeshConfig, axes_of
from cm3leon_jax.model.remat import KEPT
from cm3leon_jax.planning.chips import Slice
from cm3leon_jax.planning.run import PlannedRun

_STATE_BYTES = 12  # a parameter: float32, and AdamW's two moments
_TENSOR_SHARDS = (1, 2, 4)  # more only where a copy of the model has no other room; name them with MeshConfig.tensor


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
            if not given and may_fit(other, slice_):
                yield other


def smaller_runs(run: PlannedRun, slice_: Slice) -> list[PlannedRun]:
    """The run with one change more each time that needs less memory, the least costly first."""
    found = [run]
    if run.shards(slice_, ("data", "fsdp")) > run.shards(slice_, run.rules.embed):
        found.append(dataclasses.replace(run, rules=dataclasses.replace(run.rules, embed=("data", "fsdp"))))
    policies = list(KEPT)
    here = policies.index(run.model.remat) if run.model.remat in policies else len(policies) - 1
    for policy in policies[here + 1 :]:
        found.append(dataclasses.replace(found[-1], model=dataclasses.replace(run.model, remat=policy)))
    rows = run.rows_at_once(slice_)
    while rows > 1:
        rows //= 2
        step = dataclasses.replace(run.step, per_device_batch_size=rows)
        found.append(dataclasses.replace(found[-1], step=step))
    return found[1:]


def least_bytes(run: PlannedRun, slice_: Slice) -> float:
    """Bytes that a chip needs at least: its share of the state, and what the policy keeps of the rows at once."""
    kept = 2 * KEPT.get(run.model.remat, 0) * run.rows_at_once(slice_)
    activations = kept * run.length * run.model.d_model * run.model.num_layers / run.shards(slice_, "tensor")
    state = _STATE_BYTES * parameter_count(run.model)
    return state / run.shards(slice_, (*axes_of(run.rules.embed), "tensor")) + activations


def may_fit(run: PlannedRun, slice_: Slice) -> bool:
    """Whether compiling it is worth the time."""
    return least_bytes(run, slice_) < slice_.chip.usable_hbm_bytes
