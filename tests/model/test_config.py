import jax
import numpy as np
import pytest

from cm3leon_jax.model.config import DecoderConfig, parameter_count, training_flops_per_token
from cm3leon_jax.model.decoder import abstract_params
from cm3leon_jax.runtime.errors import UserError

# CM3Leon §3.1, table 2, with 65,536 text, image and spare ids, <break>, <eoss> and 512 sentinels (paper.md §1, §4).
PAPER = {
    "350m": (DecoderConfig(vocab_size=66_050, num_layers=24, d_model=1024, num_heads=16), 374e6),
    "760m": (DecoderConfig(vocab_size=66_050, num_layers=24, d_model=1536, num_heads=16), 787e6),
    "7b": (DecoderConfig(vocab_size=66_050, num_layers=32, d_model=4096, num_heads=32), 6.73e9),
}


@pytest.mark.parametrize("size", PAPER)
def test_parameter_counts_of_the_paper_from_shapes_alone(size):
    config, expected = PAPER[size]
    counted = sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))
    assert counted == parameter_count(config)
    assert float(f"{counted:.3g}") == expected


def test_flops_count_each_matrix_weight_six_times_and_causal_attention_once():
    config = DecoderConfig(vocab_size=100, num_layers=2, d_model=8, num_heads=2, max_length=16)
    weights = 2 * (4 * 8 * 8 + 2 * 8 * 32) + 100 * 8
    # A layer and dimension: 2 products (scores, mixing) × 2 FLOPs × 3 (backward is twice forward) × half of the pairs.
    attention = 2 * 2 * 3 * 2 * (16 / 2) * 8
    np.testing.assert_allclose(training_flops_per_token(config), 6 * weights + attention)
    assert training_flops_per_token(config, 8) == 6 * weights + attention / 2


@pytest.mark.parametrize(
    "wrong", [{"activation": "swish"}, {"num_heads": 3}, {"num_layers": 0}, {"compute_dtype": "float16"}]
)
def test_impossible_configs_are_refused_in_one_line(wrong):
    with pytest.raises(UserError) as error:
        DecoderConfig(**{"vocab_size": 64, "num_layers": 1, "d_model": 32, "num_heads": 4} | wrong)
    assert "\n" not in str(error.value)
