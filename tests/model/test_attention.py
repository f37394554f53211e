import functools
import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cm3leon_jax.model import attention_splash
from cm3leon_jax.model.attention import causal_attention, reference_attention
from cm3leon_jax.model.attention_backward import KERNEL_NAME
from cm3leon_jax.model.attention_splash import splash_attention
from cm3leon_jax.model.partitioning import UNPARTITIONED, MeshConfig, Partitioning, make_mesh
from cm3leon_jax.model.remat import rematerialized
from cm3leon_jax.planning.chips import parse_slice
from cm3leon_jax.planning.compile import slice_devices
from cm3leon_jax.planning.hlo import parse_program
from cm3leon_jax.planning.schedule import program_cost


def inputs(length, dtype=jnp.float32, batch=2, heads=2, head_dim=16):
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, do = (jax.random.normal(key, (batch, length, heads, head_dim), dtype) for key in keys)
    q = q * head_dim**-0.5
    first, second = length // 3, 2 * length // 3
    places = jnp.arange(length)
    rows = [1 + (places >= first) + (places >= second), jnp.where(places >= second, 0, 1)]
    return q, k, v, do, jnp.stack(rows).astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=0)
def output_and_gradients(attention, q, k, v, do):
    output, vjp = jax.vjp(attention, q, k, v)
    return [output, *vjp(do)]


def assert_same(found, expected, tolerance):
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float32), np.asarray(y, np.float32), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("segmented", [False, True])
@pytest.mark.parametrize(
    ("length", "dtype", "tolerance"), [(1, "float32", 1e-5), (150, "float32", 1e-5), (150, "bfloat16", 0.05)]
)
def test_blocked_attention_equals_the_definition(length, dtype, tolerance, segmented):
    q, k, v, do, segments = inputs(length, jnp.dtype(dtype))
    segments = segments if segmented else None
    found = output_and_gradients(lambda *x: causal_attention(*x, segments, implementation="xla"), q, k, v, do)
    assert_same(found, output_and_gradients(lambda *x: reference_attention(*x, segments), q, k, v, do), tolerance)
    assert all(x.dtype == jnp.dtype(dtype) for x in found)


@pytest.mark.parametrize(
    ("length", "head_dim", "dtype", "tolerance"),
    [
        (128, 64, "float32", 1e-4),  # one tile
        (512, 32, "float32", 1e-4),  # one tile, its keys in two parts
        (384, 128, "float32", 1e-4),  # three blocks
        (640, 96, "float32", 1e-4),
        (256, 64, "bfloat16", 0.05),
    ],
)
def test_splash_attention_equals_the_definition(length, head_dim, dtype, tolerance):
    q, k, v, do, segments = inputs(length, jnp.dtype(dtype), head_dim=head_dim)
    found = output_and_gradients(splash_interpreted(segments), q, k, v, do)
    assert_same(found, output_and_gradients(lambda *x: reference_attention(*x, segments), q, k, v, do), tolerance)
    assert all(x.dtype == jnp.dtype(dtype) for x in found)


def splash_interpreted(segments, partitioning=UNPARTITIONED, **options):
    return lambda q, k, v: splash_attention(q, k, v, segments, partitioning, interpret=True, **options)


@pytest.mark.parametrize("has_room", [True, False])
def test_the_librarys_backward_kernel_where_it_is_asked_for_or_ours_has_no_room(has_room, monkeypatch):
    if not has_room:
        monkeypatch.setattr(attention_splash, "fits", lambda length, head_dim: False)
    q, k, v, do, segments = inputs(128, head_dim=32)
    attention = splash_interpreted(segments, own_backward=not has_room)
    assert KERNEL_NAME not in str(jax.make_jaxpr(lambda: output_and_gradients(attention, q, k, v, do))())
    found = output_and_gradients(attention, q, k, v, do)
    assert_same(found, output_and_gradients(lambda *x: reference_attention(*x, segments), q, k, v, do), 1e-4)


def test_splash_attention_on_a_mesh_equals_one_device():
    q, k, v, do, segments = inputs(128, head_dim=32)
    expected = output_and_gradients(lambda *x: reference_attention(*x, segments), q, k, v, do)
    for mesh in (MeshConfig(data=2), MeshConfig(data=1, tensor=2)):
        attention = splash_interpreted(segments, Partitioning(make_mesh(mesh)))
        assert_same(output_and_gradients(attention, q, k, v, do), expected, 1e-4)


@pytest.mark.parametrize(("policy", "forward_kernels"), [("none", 1), ("full", 2), ("attention", 1), ("offload", 1)])
def test_the_forward_kernel_runs_again_only_where_nothing_of_it_is_saved(policy, forward_kernels):
    q, k, v, do, segments = inputs(128, head_dim=32)

    def layer(x, _):
        return rematerialized(splash_interpreted(segments, Partitioning(make_mesh(MeshConfig(data=2)))), policy)(
            x, k, v
        ), None

    def loss(x):
        return jnp.sum(jax.lax.scan(layer, x, length=2)[0] * do)

    program = str(jax.make_jaxpr(jax.grad(loss))(q))
    assert program.count("name=splash_mha_fwd") == forward_kernels
    assert program.count(f"name={KERNEL_NAME}") == 1


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the TPU's compiler")
@pytest.mark.parametrize("head_dim", [64, 128])
def test_the_backward_kernel_compiles_for_a_tpu_and_writes_no_parts_of_gradients(head_dim):
    slice_ = parse_slice("v5e-4")
    batch, length, heads = 2, 4096, 4
    one = jax.sharding.SingleDeviceSharding(slice_devices(slice_)[0])
    x = jax.ShapeDtypeStruct((batch, length, heads, head_dim), jnp.bfloat16, sharding=one)
    segments = jax.ShapeDtypeStruct((batch, length), jnp.int32, sharding=one)

    def attend_and_back(q, k, v, do, segments):
        return output_and_gradients(lambda *x: splash_attention(*x, segments, UNPARTITIONED), q, k, v, do)

    text = jax.jit(attend_and_back).lower(x, x, x, x, segments).compile().as_text()
    assert not re.search(r"\[\d+(,\d+){4,}\]", text)  # the library's gradients of queries: [.., key blocks, .., L, K]
    cost = program_cost(parse_program(text), slice_, np.zeros((1, 3), int))
    assert cost.kernel_flops == (2 + 5) * 2.0 * batch * heads * (length * (length + 1) / 2) * head_dim
    assert not cost.warnings


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN attention needs a GPU")
@pytest.mark.parametrize("segmented", [False, True])
def test_cudnn_attention_equals_the_definition(segmented):
    q, k, v, do, segments = inputs(256, jnp.bfloat16, head_dim=64)
    segments = segments if segmented else None
    found = output_and_gradients(lambda *x: causal_attention(*x, segments, implementation="cudnn"), q, k, v, do)
    assert_same(found, output_and_gradients(lambda *x: reference_attention(*x, segments), q, k, v, do), 0.05)


def test_auto_chooses_what_runs_here():
    q, k, v, _, segments = inputs(130)
    assert_same([jax.jit(causal_attention)(q, k, v, segments)], [jax.jit(reference_attention)(q, k, v, segments)], 1e-5)
