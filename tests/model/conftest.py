"""A tiny decoder whose every weight matters: zero-initialised matrices would hide mistakes."""

import dataclasses

import jax
import pytest

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import init_params

TINY = DecoderConfig(
    vocab_size=64, num_layers=3, d_model=32, num_heads=4, max_length=40, compute_dtype="float32", stack="unroll"
)


def perturbed(params, scale=0.1, seed=1):
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [x + scale * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


@pytest.fixture(scope="session")
def config():
    return TINY


@pytest.fixture(scope="session")
def params(config):
    return perturbed(init_params(config, jax.random.key(0)))


@pytest.fixture(scope="session")
def scanned(config):
    return dataclasses.replace(config, stack="scan")
