"""Every rule against the float64 reference, on rows with ties and forbidden tokens."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sampling_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling import rules
from cm3leon_jax.sampling.rules import RULES, SamplingConfig

VOCAB = 48
compiled = functools.partial(jax.jit, static_argnums=0)(rules.scores)


@st.composite
def rows(draw, count=4):
    """Float32 logits [count, VOCAB] of both streams: rounded, so that ties are common, with some -inf."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.1, 1.0, 4.0, 20.0]))
    decimals = draw(st.sampled_from([0, 1, 7]))
    streams = np.round(rng.normal(size=(2, count, VOCAB)) * scale, decimals)
    forbidden = draw(st.sampled_from([0.0, 0.2, 0.9]))
    streams[rng.random(streams.shape) < forbidden] = -np.inf
    streams[:, :, draw(st.integers(0, VOCAB - 1))] = 0.0  # never all forbidden
    return streams.astype(np.float32)


@st.composite
def configs(draw):
    number = lambda low, high: draw(st.floats(low, high, width=32))  # noqa: E731
    return SamplingConfig(
        temperature=number(0.25, 2),
        top_p=draw(st.sampled_from([0.001, 0.1, 0.5, 0.9, 0.99])),
        guidance_scale=number(0, 8),
        cdk_k=draw(st.sampled_from([1, 2, 5, 20, VOCAB, VOCAB + 3])),
        cdk_alpha=draw(st.sampled_from([0.01, 0.3, 0.5, 0.9])),
        expert_temperature=number(0.25, 2),
        amateur_temperature=number(0.25, 2),
        score_temperature=number(0.25, 2),
    )


@pytest.mark.parametrize("rule", sorted(RULES))
@settings(max_examples=25, deadline=None)
@given(streams=rows(), config=configs())
def test_rule_equals_the_float64_reference(rule, streams, config):
    config = dataclasses.replace(config, rule=rule)
    cond, uncond = streams
    got = np.asarray(compiled(rule, (cond, uncond), config.settings()))
    # float32 sums may decide a token that lies on the boundary either way, so the set must lie between two others.
    epsilon = 1e-4
    smaller, larger = (
        dataclasses.replace(config, top_p=config.top_p * (1 + change), cdk_alpha=config.cdk_alpha * (1 - change))
        for change in (-epsilon, epsilon)
    )
    for row in range(len(cond)):
        inside = ~np.isinf(got[row])
        least, most = (reference.scores(cond[row], uncond[row], c) for c in (smaller, larger))
        if rule == "guided":  # what ties in exact arithmetic need not tie in float32
            least = np.where(least > least[~np.isinf(least)].min() + epsilon, least, -np.inf)
            wide = reference.scores(cond[row], uncond[row], dataclasses.replace(config, top_p=1.0))
            most = np.where(wide >= most[~np.isinf(most)].min() - epsilon, wide, -np.inf)
        assert not np.isnan(got[row]).any()
        assert (inside >= ~np.isinf(least)).all() and (inside <= ~np.isinf(most)).all()
        np.testing.assert_allclose(got[row][inside], most[inside], rtol=2e-5, atol=2e-4)


def test_top_p_keeps_the_boundary_token_and_its_ties():
    logits = jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1], [0.5, 0.2, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]]))
    keep_top_p = jax.jit(rules.keep_top_p)
    kept = ~jnp.isneginf(keep_top_p(logits, 0.6))
    assert kept.tolist() == [[True, True, False, False], [True, True, True, False], [True] * 4]
    assert not jnp.isneginf(keep_top_p(logits, 1.0)).any()
    assert (~jnp.isneginf(keep_top_p(logits, 1e-6)))[:2].sum(axis=1).tolist() == [1, 1]


@pytest.mark.parametrize("k", [1, 2, 3, 7, 8])
def test_kth_largest_counts_ties_and_handles_signs_and_infinities(k):
    values = np.array(
        [[3.0, -0.0, 0.0, -5.0, 3.0, 1e-30, -1e30, -np.inf], [-1, -2, -3, -4, -5, -6, -7, -8]], np.float32
    )
    expected = np.sort(values, axis=1)[:, ::-1][:, k - 1]
    np.testing.assert_array_equal(np.asarray(rules.kth_largest(values, k))[:, 0], expected)


def test_fewer_permitted_tokens_than_k_leaves_them_all():
    cond = jnp.array([[1.0, 2.0, -jnp.inf, -jnp.inf]])
    config = SamplingConfig(rule="cdk", cdk_k=3)
    got = compiled("cdk", (cond, jnp.zeros((1, 4))), config.settings())
    assert jnp.isneginf(got).tolist() == [[False, False, True, True]]
    assert rules.kth_largest(cond, 9).tolist() == [[-jnp.inf]]


@settings(max_examples=20, deadline=None)
@given(streams=rows(), config=configs())
def test_cdk_with_k_1_is_plain_contrastive_decoding(streams, config):
    numbers = dataclasses.replace(config, cdk_k=1).settings()
    np.testing.assert_array_equal(
        compiled("cdk", tuple(streams), numbers), compiled("contrastive", tuple(streams), numbers)
    )


def test_alpha_1_keeps_exactly_the_k_most_probable_and_their_ties():
    cond = jnp.array([[5.0, 4.0, 4.0, 3.0, 2.0]])
    numbers = SamplingConfig(rule="cdk", cdk_k=2, cdk_alpha=1.0).settings()
    assert jnp.isneginf(compiled("cdk", (cond, cond * 0), numbers)).tolist() == [[False, False, False, True, True]]


def test_draws_follow_the_softmax_of_the_scores():
    scores = jnp.array([0.5, -jnp.inf, 2.0, 1.0, -jnp.inf, -1.0])
    count = 20_000
    keys = jax.random.split(jax.random.key(0), count)
    drawn = rules.draw(keys, jnp.broadcast_to(scores, (count, 6)))
    frequency = np.bincount(drawn, minlength=6) / count
    expected = np.exp(reference.log_softmax(np.asarray(scores)))
    assert frequency[[1, 4]].sum() == 0
    np.testing.assert_allclose(frequency, expected, atol=4 * 0.5 / np.sqrt(count))


def test_mixed_is_half_guided_and_half_cdk():
    mixed = SamplingConfig(rule="mixed")
    assert [mixed.rule_of_sample(sample) for sample in range(4)] == ["guided", "cdk", "guided", "cdk"]
    assert SamplingConfig(rule="top_p").rule_of_sample(3) == "top_p"


@pytest.mark.parametrize(
    "wrong",
    [{"rule": "nucleus"}, {"temperature": 0.0}, {"top_p": 1.5}, {"cdk_alpha": 0.0}, {"cdk_k": 0}, {"seed": -1},
     {"seed": 2**32}, {"temperature": 1e-300}, {"temperature": 10**400}, {"guidance_scale": float("inf")},
     {"guidance_scale": float("nan")}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_the_users_error(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        SamplingConfig(**wrong)
