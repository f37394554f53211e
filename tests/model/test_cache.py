import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cm3leon_jax.model.cache import decode_step, init_cache, prefill, prefill_shared
from cm3leon_jax.model.decoder import hidden_states

STEPS = 8


def decoded(params, config, tokens, lengths):
    """Hidden states at each row's last prompt token and at the STEPS tokens behind it, [STEPS + 1, B, D]."""
    rows, lengths = np.arange(len(lengths)), np.asarray(lengths)
    padded = int(lengths.max())
    prompts = jnp.where(jnp.arange(padded) < lengths[:, None], tokens[:, :padded], 0)
    cache = init_cache(config, len(rows), padded + STEPS)
    hidden, cache = jax.jit(functools.partial(prefill, config=config))(params, cache, prompts, jnp.asarray(lengths))
    step = jax.jit(functools.partial(decode_step, config=config))
    outputs = [hidden]
    for t in range(STEPS):
        hidden, cache = step(params, cache, tokens[rows, lengths + t], jnp.asarray(lengths + t))
        outputs.append(hidden)
    assert step._cache_size() == 1
    return np.stack(outputs)


@pytest.fixture(scope="module")
def tokens():
    return np.asarray(jax.random.randint(jax.random.key(5), (3, 20), 0, 64))


@pytest.fixture(scope="module", params=["unroll", "scan"])
def stacked(request, config, scanned):
    return scanned if request.param == "scan" else config


def test_cached_decoding_of_ragged_rows_equals_the_full_forward_pass(stacked, params, tokens):
    lengths = np.array([5, 9, 1])
    full = np.asarray(jax.jit(functools.partial(hidden_states, config=stacked))(params, tokens))
    found = decoded(params, stacked, tokens, lengths)
    for t in range(STEPS + 1):
        np.testing.assert_allclose(found[t], full[np.arange(3), lengths - 1 + t], atol=1e-5)


def test_ragged_rows_equal_the_same_rows_alone(config, params, tokens):
    lengths = [5, 9, 1]
    together = decoded(params, config, tokens, lengths)
    for row, length in [(0, 5), (2, 1)]:
        alone = decoded(params, config, tokens[row : row + 1], [length])
        np.testing.assert_allclose(together[:, row], alone[:, 0], atol=1e-5)


@pytest.mark.parametrize("dtype", [None, "int8"])
def test_rows_that_begin_alike_read_their_beginning_once(stacked, params, tokens, dtype):
    """Two groups of two rows: beginnings of 7 and 4 tokens, behind them 5, 2, 3 and 6, then STEPS more."""
    lengths_G, lengths_B = np.array([7, 4]), np.array([5, 2, 3, 6])
    other = np.asarray(jax.random.randint(jax.random.key(6), (4, 15), 0, 64))
    before = np.repeat(lengths_G, 2)
    whole = [np.concatenate([tokens[row // 2, : before[row]], other[row]]) for row in range(4)]
    padded = np.array([np.pad(ids, (0, 22 - len(ids))) for ids in whole])
    full = np.asarray(jax.jit(functools.partial(hidden_states, config=stacked))(params, padded))

    options = {"config": stacked}
    shared = jax.jit(functools.partial(prefill_shared, dtype=dtype, **options))(params, tokens[:2, :7], lengths_G)
    cache = init_cache(stacked, 4, 6 + STEPS, dtype, shared=shared)
    hidden, cache = jax.jit(functools.partial(prefill, **options))(params, cache, other[:, :6], lengths_B)
    step = jax.jit(functools.partial(decode_step, **options))
    tolerance = 1e-5 if dtype is None else 0.05 * np.abs(full).max()
    for t in range(STEPS + 1):
        np.testing.assert_allclose(hidden, full[np.arange(4), before + lengths_B - 1 + t], atol=tolerance)
        hidden, cache = step(params, cache, other[np.arange(4), lengths_B + t], before + lengths_B + t)
