import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cm3leon_jax.model.attention import causal_attention, reference_attention
from cm3leon_jax.model.attention_splash import splash_attention
from cm3leon_jax.model.partitioning import UNPARTITIONED, MeshConfig, Partitioning, make_mesh


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


def test_splash_attention_equals_the_definition():
    q, k, v, do, segments = inputs(256, head_dim=32)
    found = output_and_gradients(lambda *x: splash_attention(*x, segments, UNPARTITIONED, interpret=True), q, k, v, do)
    assert_same(found, output_and_gradients(lambda *x: reference_attention(*x, segments), q, k, v, do), 1e-4)


def test_splash_attention_on_a_mesh_equals_one_device():
    q, k, v, _, segments = inputs(128, head_dim=32)
    expected = jax.jit(reference_attention)(q, k, v, segments)
    for mesh in (MeshConfig(data=2), MeshConfig(data=1, tensor=2)):
        partitioning = Partitioning(make_mesh(mesh))
        found = jax.jit(lambda *x, p=partitioning: splash_attention(*x, segments, p, interpret=True))(q, k, v)
        assert_same([found], [expected], 1e-4)


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
