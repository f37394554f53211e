"""Where arrays lie: one place that makes meshes, and one small table from logical axes to mesh axes.

Parameters and activations name their axes logically ("embed", "heads", "batch"); `AxisRules` says which mesh axis each
is split over. Meshes always have Auto axes: XLA propagates what is not stated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cm3leon_jax.runtime.errors import UserError

MeshAxes = str | tuple[str, ...] | None
AXIS_NAMES = ("slice", "data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; at most one is -1, which takes the devices that are left."""

    slices: int = 1  # TPU slices joined by the data-centre network; each holds the model and its share of the batch
    data: int = -1  # the batch is split; the model is copied, unless a rule splits parameters over this axis too
    fsdp: int = 1  # the batch and the parameters are both split; parameters are gathered when needed
    tensor: int = 1  # heads, FFN and vocabulary are split; must divide the number of heads

    def sizes(self, devices: int) -> list[int]:
        """The sizes of the axes over so many devices, none of them -1. UserError: they do not multiply to that."""
        sizes = [self.slices, self.data, self.fsdp, self.tensor]
        known = math.prod(size for size in sizes if size != -1)
        if sizes.count(-1) > 1 or known < 1 or devices % known:
            raise UserError(f"{self} does not fit {devices} devices; its axes must multiply to that number")
        sizes = [devices // known if size == -1 else size for size in sizes]
        if math.prod(sizes) != devices:
            raise UserError(f"{self} needs {math.prod(sizes)} devices and there are {devices}; set one axis to -1")
        return sizes


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
    gradient_dtype: str = "float32"  # in which the gradients of weights are summed over devices
    compiled_for: str = ""  # the platform, where there is no mesh and it is not this process's

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
        if self.mesh is None:
            return self.compiled_for or jax.default_backend()
        return self.mesh.devices.flat[0].platform

    @property
    def batch_axes(self) -> tuple[str, ...]:
        """The mesh axes that the batch is split over."""
        return axes_of(self.rules.batch)

    @property
    def batch_shards(self) -> int:
        """How many pieces the batch is cut into: the batch size must be a multiple of it."""
        return 1 if self.mesh is None else math.prod(self.mesh.shape[axis] for axis in self.batch_axes)


UNPARTITIONED = Partitioning(None)


@dataclasses.dataclass(frozen=True)
class WeightLayout:
    """How one weight is split: `axes` are its logical axes. Hashable.

    A product needs the weight whole along those mesh axes that the batch is split over: it is gathered over them before
    the product. The gradient, a sum over the batch, is summed over them, and each device keeps its share.
    """

    partitioning: Partitioning
    axes: tuple[str | None, ...]

    def gathered(self, weight: jax.Array) -> jax.Array:
        """The weight, whole along the batch's mesh axes."""
        if self.partitioning.mesh is None:
            return weight
        batch = self.partitioning.batch_axes
        sharding = NamedSharding(self.partitioning.mesh, self._spec(lambda axis: axis not in batch))
        return jax.lax.with_sharding_constraint(weight, sharding)

    def summed_over_batch(self, gradient: Callable[..., jax.Array], *rows: jax.Array) -> jax.Array:
        """The sum over devices of `gradient(*rows)`, the weight's gradient [of its shape] from a device's own rows.

        Reduced and scattered over one mesh axis after the other: over several at once, the TPU's compiler makes an
        all-reduce of it, which moves twice the bytes.
        """
        partitioning = self.partitioning
        if partitioning.batch_shards == 1:
            return gradient(*rows)
        return jax.shard_map(
            lambda *own: self.scattered_sum(gradient(*own)),
            mesh=partitioning.mesh,
            axis_names=set(partitioning.batch_axes),
            in_specs=partitioning.rules.spec(("batch",)),
            out_specs=self.shares,
            check_vma=False,
        )(*rows)

    @property
    def shares(self) -> PartitionSpec:
        """How the weight is split over the batch's mesh axes alone."""
        return self._spec(lambda axis: axis in self.partitioning.batch_axes)

    def scattered_sum(self, gradient: jax.Array) -> jax.Array:
        """Inside a `shard_map` over the batch's axes: the device's share of the sum of all devices' gradients."""
        if self.partitioning.batch_shards == 1:
            return gradient
        dtype = gradient.dtype
        gradient = gradient.astype(jnp.dtype(self.partitioning.gradient_dtype))
        others = list(self.partitioning.batch_axes)
        for dimension, axes in enumerate(self.shares):
            for axis in axes_of(axes):
                gradient = jax.lax.psum_scatter(gradient, axis, scatter_dimension=dimension, tiled=True)
                others.remove(axis)
        return jax.lax.psum(gradient, tuple(others)).astype(dtype)

    def _spec(self, kept: Callable[[str], bool]) -> PartitionSpec:
        """The weight's spec, of the mesh axes that are `kept`."""
        spec = self.partitioning.rules.spec(self.axes)
        return PartitionSpec(*(tuple(filter(kept, axes_of(axes))) or None for axes in spec))


def axes_of(axes: MeshAxes) -> tuple[str, ...]:
    """What a rule names, as a tuple."""
    return (axes,) if isinstance(axes, str) else axes or ()


UNSPLIT = WeightLayout(UNPARTITIONED, ())


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over `devices` (default: all of all processes; those of a planned slice may be given).

    `create_device_mesh` lays the axes along the physical network: on TPU v5p the order of devices decides whether
    parameters are all-gathered or all-reduced.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = config.sizes(len(devices))
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


def local_partitioning(config: MeshConfig | None = None, rules: AxisRules | None = None) -> Partitioning:
    """Over the devices of this process alone, whatever the others do."""
    return Partitioning(make_mesh(config or MeshConfig(), jax.local_devices()), rules or AxisRules())
