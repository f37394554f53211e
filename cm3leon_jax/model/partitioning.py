"""Where arrays lie: one place that makes meshes, and one small table from logical axes to mesh axes.

Parameters and activations name their axes logically ("embed", "heads", "batch"); `AxisRules` says which mesh axis each
is split over. Meshes always have Auto axes: XLA propagates what is not stated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cm3leon_jax.runtime.errors import UserError

MeshAxes = str | tuple[str, ...] | None
AXIS_NAMES = ("slice", "data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; at most one is -1, which takes the devices that are left."""

    slices: int = 1  # TPU slices joined by the data-centre network; each holds the model and its share of the batch
    data: int = -1  # copies of the model within a slice, each with its own rows of the batch
    fsdp: int = 1  # the batch and the parameters are both split; parameters are gathered when needed
    tensor: int = 1  # heads, FFN and vocabulary are split; must divide the number of heads


@dataclasses.dataclass(frozen=True)
class AxisRules:
    """Logical axis -> mesh axes it is split over. Edit to partition otherwise."""

    # parameters
    vocab: MeshAxes = "tensor"
    position: MeshAxes = None
    embed: MeshAxes = "fsdp"
    heads: MeshAxes = "tensor"
    ffn: MeshAxes = "tensor"
    layers: MeshAxes = None
    # activations
    batch: MeshAxes = ("slice", "data", "fsdp")
    length: MeshAxes = None
    features: MeshAxes = None

    def spec(self, axes: Sequence[str | None]) -> PartitionSpec:
        return PartitionSpec(*(None if axis is None else getattr(self, axis) for axis in axes))


@dataclasses.dataclass(frozen=True)
class Partitioning:
    """A mesh and the rules for it; without a mesh, nothing is constrained. Hashable: a static argument of `jax.jit`."""

    mesh: Mesh | None
    rules: AxisRules = AxisRules()

    def sharding(self, *axes: str | None) -> NamedSharding:
        """The sharding of an array with these logical axes."""
        if self.mesh is None:
            raise ValueError("no mesh")
        return NamedSharding(self.mesh, self.rules.spec(axes))

    def constrain(self, x: jax.Array, *axes: str | None) -> jax.Array:
        """Tells XLA how an activation with these logical axes lies."""
        return x if self.mesh is None else jax.lax.with_sharding_constraint(x, self.sharding(*axes))

    def tree(self, axes: Any) -> Any:
        """A tree with tuples of logical axes as leaves -> the same tree of shardings."""
        return jax.tree.map(lambda leaf: self.sharding(*leaf), axes, is_leaf=lambda node: isinstance(node, tuple))

    def replicated(self) -> NamedSharding:
        return self.sharding()

    @property
    def platform(self) -> str:
        """Of the mesh's devices, which may be those of a planned slice: "cpu", "gpu", "tpu"."""
        return jax.default_backend() if self.mesh is None else self.mesh.devices.flat[0].platform

    @property
    def batch_axes(self) -> tuple[str, ...]:
        """The mesh axes that the batch is split over."""
        axes = self.rules.batch
        return (axes,) if isinstance(axes, str) else axes or ()

    @property
    def batch_shards(self) -> int:
        """How many pieces the batch is cut into: the batch size must be a multiple of it."""
        return 1 if self.mesh is None else math.prod(self.mesh.shape[axis] for axis in self.batch_axes)


UNPARTITIONED = Partitioning(None)


@dataclasses.dataclass(frozen=True)
class WeightLayout:
    """How one weight is split: `axes` are its logical axes. Hashable.

    A product needs the weight whole along those mesh axes that the batch is split over: it is gathered over them before
    the product, and the gradient, a sum over the batch, is reduced and scattered over them again.
    """

    partitioning: Partitioning
    axes: tuple[str | None, ...]

    def gathered(self, weight: jax.Array) -> jax.Array:
        if self.partitioning.mesh is None:
            return weight
        kept = (_without(axes, self.partitioning.batch_axes) for axes in self.partitioning.rules.spec(self.axes))
        sharding = NamedSharding(self.partitioning.mesh, PartitionSpec(*kept))
        return jax.lax.with_sharding_constraint(weight, sharding)

    def reduced(self, gradient: jax.Array) -> jax.Array:
        return self.partitioning.constrain(gradient, *self.axes)


def _without(axes: MeshAxes, removed: tuple[str, ...]) -> MeshAxes:
    named = (axes,) if isinstance(axes, str) else axes or ()
    return tuple(axis for axis in named if axis not in removed) or None


UNSPLIT = WeightLayout(UNPARTITIONED, ())


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over `devices` (default: all of all processes; those of a planned slice may be given).

    `create_device_mesh` lays the axes along the physical network: on TPU v5p the order of devices decides whether
    parameters are all-gathered or all-reduced.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = [config.slices, config.data, config.fsdp, config.tensor]
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 or known < 1 or len(devices) % known:
        raise UserError(f"{config} does not fit {len(devices)} devices; its axes must multiply to that number")
    sizes = [len(devices) // known if size == -1 else size for size in sizes]
    if math.prod(sizes) != len(devices):
        raise UserError(f"{config} needs {math.prod(sizes)} devices and there are {len(devices)}; set one axis to -1")
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices not in (1, sizes[0]):
        raise UserError(f"the devices are {slices} slices; set MeshConfig.slices = {slices}, not {sizes[0]}")
    if slices > 1:
        grid = mesh_utils.create_hybrid_device_mesh(
            [1, *sizes[1:]], [sizes[0], 1, 1, 1], devices=devices, allow_split_physical_axes=True
        )
    else:
        grid = mesh_utils.create_device_mesh(sizes, devices=devices, allow_split_physical_axes=True)
    return Mesh(grid, AXIS_NAMES, axis_types=(AxisType.Auto,) * len(AXIS_NAMES))
