"""Drawing tokens: the kernel, interpreted, and the XLA formulation against the float64 reference and each other."""

import dataclasses
import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sampling_reference as reference
import scipy.stats

from cm3leon_jax.model.partitioning import AxisRules, MeshConfig, Partitioning, make_mesh
from cm3leon_jax.planning.chips import parse_slice
from cm3leon_jax.planning.compile import slice_devices
from cm3leon_jax.sampling import rule_kernel
from cm3leon_jax.sampling.draw import draw_tokens
from cm3leon_jax.sampling.noise import gumbel
from cm3leon_jax.sampling.rules import RULES, TWO_STREAMS, SamplingConfig

VOCAB, ROWS = 1100, 11  # neither a multiple of a register's width nor of what the kernel takes at a time
IMPLEMENTATIONS = ("kernel", "xla")
CONFIGS = [
    SamplingConfig(top_p=0.85, guidance_scale=2.5, cdk_k=5, temperature=0.8, score_temperature=1.3),
    SamplingConfig(top_p=0.3, guidance_scale=0.0, cdk_k=1, cdk_alpha=0.9),
    SamplingConfig(top_p=1.0, guidance_scale=7.5, cdk_k=VOCAB + 3, cdk_alpha=0.01, expert_temperature=1.7),
]


@functools.partial(jax.jit, static_argnums=0, static_argnames=("implementation", "partitioning"))
def draw(rule, logits_SxBxV, keys_B, settings, **options):
    return draw_tokens(rule, logits_SxBxV, keys_B, settings, interpret=True, **options)


def make_rows(seed, scale=4.0, decimals=1, forbidden=0.3):
    """float32 [2, ROWS, VOCAB] with ties and -inf."""
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(size=(2, ROWS, VOCAB)) * scale, decimals)
    logits[rng.random(logits.shape) < forbidden] = -np.inf
    logits[:, :, 1 + seed] = logits.max(axis=2)  # one of the most probable tokens is never forbidden
    return logits.astype(np.float32)


def row_keys(seed, count=ROWS):
    return jax.random.split(jax.random.key(seed), count)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("rule", sorted(RULES))
def test_draws_are_those_of_the_float64_reference(rule, implementation):
    noise = jax.jit(jax.vmap(lambda key: jax.random.gumbel(key, (VOCAB,))))
    for seed, config in enumerate(CONFIGS):
        config = dataclasses.replace(config, rule=rule)
        for number, rows in enumerate((make_rows(seed), make_rows(seed, scale=0.5, decimals=7, forbidden=0.9))):
            cond, uncond = rows
            keys = row_keys(10 * seed + number)
            logits = rows[: 2 if rule in TWO_STREAMS else 1]
            index, log_p = draw(rule, logits, keys, config.settings(), implementation=implementation)
            for row, perturbation in enumerate(np.asarray(noise(keys), np.float64)):
                assert index[row] == np.argmax(reference.scores(cond[row], uncond[row], config) + perturbation)
                assert log_p[row] == pytest.approx(reference.log_softmax(cond[row])[index[row]], abs=1e-5)


def test_noise_is_that_of_jax_random():
    keys = row_keys(3)
    expected = jax.jit(jax.vmap(lambda key: jax.random.gumbel(key, (VOCAB,), jnp.float32)))(keys)
    found = jax.jit(gumbel)(jax.random.key_data(keys), jnp.arange(VOCAB, dtype=jnp.int32)[None])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_draws_follow_the_softmax_of_the_scores(implementation):
    logits = np.full((2, 1, 6), -np.inf, np.float32)
    logits[0, 0, [0, 2, 3, 5]] = 0.5, 1.0, 0.8, 0.1
    logits[1, 0, [0, 2, 3, 4]] = 0.1, 0.9, -0.3, 2.0
    config = SamplingConfig(rule="cdk", cdk_k=2, cdk_alpha=0.1)
    probabilities = np.exp(reference.log_softmax(reference.scores(logits[0, 0], logits[1, 0], config)))
    assert np.count_nonzero(probabilities) == 3
    count = 1000
    rows = jnp.broadcast_to(logits, (2, count, 6))
    index, _ = draw("cdk", rows, row_keys(0, count), config.settings(), implementation=implementation)
    frequency = np.bincount(index, minlength=6)
    possible = probabilities > 0
    assert frequency[~possible].sum() == 0
    assert scipy.stats.chisquare(frequency[possible], count * probabilities[possible]).pvalue > 1e-3


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_draw_does_not_depend_on_its_batch(implementation):
    rows, keys, settings = make_rows(0, decimals=7), row_keys(0), CONFIGS[0].settings()
    together, log_p = draw("guided", rows, keys, settings, implementation=implementation)
    backwards, _ = draw("guided", rows[:, ::-1], keys[::-1], settings, implementation=implementation)
    alone, log_p_alone = draw("guided", rows[:, 4:5], keys[4:5], settings, implementation=implementation)
    np.testing.assert_array_equal(together, backwards[::-1])
    assert together[4] == alone[0]
    np.testing.assert_allclose(log_p[4], log_p_alone[0], atol=1e-6)


@pytest.mark.parametrize("mesh", [MeshConfig(data=2), MeshConfig(data=1, tensor=2)])
def test_each_device_draws_its_own_rows(mesh):
    rows, keys, settings = make_rows(0)[:, :10], row_keys(0)[:10], CONFIGS[0].settings()
    whole = draw("cdk", rows, keys, settings, implementation="kernel")
    split = draw("cdk", rows, keys, settings, implementation="kernel", partitioning=Partitioning(make_mesh(mesh)))
    np.testing.assert_array_equal(whole[0], split[0])
    np.testing.assert_allclose(whole[1], split[1], atol=1e-6)


def test_vocabularies_of_the_paper_have_room():
    assert rule_kernel.fits(2, 56_318) and rule_kernel.fits(2, 8192)
    assert not rule_kernel.fits(2, 200_000)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the TPU's compiler")
@pytest.mark.parametrize(
    "rule, vocabulary, rows, tensor",
    [("cdk", 56_318, 16, 1), ("guided", 8192, 4, 2), ("top_p", 56_318, 1, 4)]
    + [(rule, 8192, 16, 1) for rule in ("plain", "greedy", "contrastive")],
)
def test_the_kernel_compiles_for_tpus(rule, vocabulary, rows, tensor):
    mesh = make_mesh(MeshConfig(data=-1, tensor=tensor), slice_devices(parse_slice("v5e-4")))
    partitioning = Partitioning(mesh, AxisRules(embed=None))
    streams = 2 if rule in TWO_STREAMS else 1

    def program(hidden, table, words, settings):
        logits = jnp.einsum("sbd,vd->sbv", hidden, table, preferred_element_type=jnp.float32)
        return draw_tokens(rule, logits, jax.random.wrap_key_data(words), settings, partitioning)

    def array(shape, dtype, *axes):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=partitioning.sharding(*axes))

    hidden = array((streams, rows, 256), jnp.bfloat16, None, "batch")
    table = array((vocabulary, 256), jnp.bfloat16, "vocab" if vocabulary % tensor == 0 else None)
    words = array((rows, 2), jnp.uint32, "batch")
    compiled = jax.jit(program).lower(hidden, table, words, SamplingConfig().settings()).compile()
    text = compiled.as_text()
    assert rule_kernel.KERNEL_NAME in text
    # What is gathered where the vocabulary is split are logits, not rows of the output projection.
    gathered = [line.split(" all-gather(")[0] for line in text.splitlines() if " all-gather(" in line]
    assert not any("bf16" in line for line in gathered) and bool(gathered) == (tensor > 1)
