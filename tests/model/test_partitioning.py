import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from cm3leon_jax.model.decoder import logical_axes
from cm3leon_jax.model.partitioning import UNPARTITIONED, AxisRules, MeshConfig, Partitioning, make_mesh
from cm3leon_jax.runtime.devices import put_batch
from cm3leon_jax.runtime.errors import UserError


def test_mesh_axes_are_auto_and_minus_one_takes_what_is_left():
    mesh = make_mesh(MeshConfig(data=-1, fsdp=1, tensor=2))
    assert dict(mesh.shape) == {"slice": 1, "data": jax.device_count() // 2, "fsdp": 1, "tensor": 2}
    assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize("wrong", [MeshConfig(data=3), MeshConfig(data=-1, fsdp=-1), MeshConfig(data=1, fsdp=1)])
def test_meshes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(UserError):
        make_mesh(wrong)


def test_parameters_lie_as_their_axes_say(config):
    partitioning = Partitioning(make_mesh(MeshConfig(data=1, fsdp=2)))
    shardings = partitioning.tree(logical_axes(config))
    assert shardings["layers"]["attention"]["query"].spec == PartitionSpec(None, "fsdp", "tensor")
    assert shardings["embedding"]["tokens"].spec == PartitionSpec("tensor", "fsdp")
    other = Partitioning(partitioning.mesh, AxisRules(embed=None))
    assert other.tree(logical_axes(config))["embedding"]["tokens"].spec == PartitionSpec("tensor", None)


def test_batches_are_split_over_the_batch_axes():
    partitioning = Partitioning(make_mesh(MeshConfig(data=1, fsdp=2)))
    batch = put_batch({"tokens": np.arange(8).reshape(4, 2)}, partitioning.sharding("batch"))
    assert batch["tokens"].addressable_shards[0].data.shape == (2, 2)
    assert partitioning.batch_shards == 2 and UNPARTITIONED.batch_shards == 1
