import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cm3leon_jax.interop.opt.config import opt_config
from cm3leon_jax.interop.opt.names import TIED, opt_tensors
from cm3leon_jax.model.decoder import abstract_params, hidden_states, logical_axes, logits
from cm3leon_jax.runtime.model_folder import flatten


@functools.partial(jax.jit, static_argnames="config")
def all_logits(params, tokens, config, positions=None, segments=None):
    hidden = hidden_states(params, tokens, config=config, positions_BxL=positions, segments_BxL=segments)
    return logits(params, hidden)


def tokens_of(config, rows=3, length=20):
    return jax.random.randint(jax.random.key(2), (rows, length), 0, config.vocab_size)


def test_every_parameter_names_its_axes(config, params):
    shapes, axes = flatten(abstract_params(config)), flatten(logical_axes(config))
    assert shapes.keys() == axes.keys() == flatten(params).keys()
    for name, leaf in flatten(params).items():
        assert leaf.shape == shapes[name].shape and leaf.dtype == shapes[name].dtype == jnp.float32
        assert len(axes[name]) == leaf.ndim


def opt_with(config, params):
    """Hugging Face's OPT with these weights."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, as a reference")
    transformers = pytest.importorskip("transformers", reason="needs transformers, as a reference")
    opt_settings = transformers.OPTConfig(**opt_config(config, "float32"), attn_implementation="eager")
    opt = transformers.OPTForCausalLM(opt_settings).eval()
    tensors = opt_tensors(config, flatten(params).__getitem__)
    state = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
    opt.load_state_dict(state | {TIED: state["model.decoder.embed_tokens.weight"]})
    return opt


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_logits_equal_those_of_hugging_face_opt(config, params, activation):
    config = dataclasses.replace(config, activation=activation)
    tokens = tokens_of(config)
    torch = pytest.importorskip("torch", reason="needs PyTorch, as a reference")
    with torch.no_grad():
        expected = opt_with(config, params)(torch.from_numpy(np.array(tokens)).long()).logits.numpy()
    np.testing.assert_allclose(all_logits(params, tokens, config), expected, atol=1e-4)


@pytest.mark.parametrize("changed", [{"stack": "scan"}, {"remat": "full"}, {"stack": "scan", "remat": "dots"}])
def test_how_layers_are_run_changes_no_logits_and_no_gradients(config, params, changed):
    tokens = tokens_of(config)

    @functools.partial(jax.jit, static_argnames="config")
    def loss_and_gradients(params, config):
        return jax.value_and_grad(lambda p: jnp.sin(hidden_states(p, tokens, config=config)).sum())(params)

    expected = loss_and_gradients(params, config)
    found = loss_and_gradients(params, dataclasses.replace(config, **changed))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), found, expected)


def test_a_token_sees_nothing_behind_it(config, params):
    tokens = tokens_of(config)
    before = all_logits(params, tokens, config)
    after = all_logits(params, tokens.at[:, 12].add(1) % config.vocab_size, config)
    np.testing.assert_array_equal(before[:, :12], after[:, :12])
    assert not np.allclose(before[:, 12:], after[:, 12:])


def test_packed_examples_equal_the_same_examples_alone(config, params):
    lengths = [7, 12, 7]
    examples = [tokens_of(config, 1, length) + index for index, length in enumerate(lengths)]
    packed = jnp.concatenate([*examples, jnp.zeros((1, 4), jnp.int32)], axis=1) % config.vocab_size
    segments = np.repeat([[1, 2, 3, 0]], 1, axis=0).repeat([*lengths, 4], axis=1)
    positions = np.concatenate([np.arange(length) for length in [*lengths, 4]])[None]
    together = all_logits(params, packed, config, jnp.asarray(positions), jnp.asarray(segments))
    assert np.isfinite(together).all()
    start = 0
    for example in examples:
        alone = all_logits(params, example % config.vocab_size, config)
        np.testing.assert_allclose(together[:, start : start + example.shape[1]], alone, atol=1e-5)
        start += example.shape[1]


def test_qk_norm_bounds_the_scores(config, params):
    tokens = tokens_of(config)
    normed = dataclasses.replace(config, qk_norm=True)
    larger = jax.tree.map(lambda x: x, params)
    larger["layers"]["attention"]["query"] = 50 * params["layers"]["attention"]["query"]
    np.testing.assert_allclose(all_logits(params, tokens, normed), all_logits(larger, tokens, normed), atol=1e-2)
    assert not np.allclose(all_logits(params, tokens, config), all_logits(larger, tokens, config), atol=1e-2)


def test_some_rows_of_the_vocabulary_alone(config, params):
    hidden = jax.random.normal(jax.random.key(4), (3, config.d_model))
    some = logits(params, hidden, rows=(10, 30))
    np.testing.assert_allclose(some, logits(params, hidden)[..., 10:30], atol=1e-6)


def test_bfloat16_stays_near_float32(config, params):
    params = jax.tree.map(lambda x: x / 5, params)
    half = dataclasses.replace(config, compute_dtype="bfloat16")
    tokens = tokens_of(config)
    np.testing.assert_allclose(all_logits(params, tokens, half), all_logits(params, tokens, config), atol=0.05)
    assert all_logits(params, tokens, half).dtype == jnp.float32
