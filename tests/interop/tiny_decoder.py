"""A tiny decoder whose every weight matters, an image tokenizer for it, and the two commands."""

import jax
import numpy as np

from cm3leon_jax.cli import main
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import init_params
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
from cm3leon_jax.vocabulary import Vocabulary

VOCABULARY = Vocabulary(text_size=30, image_size=24, num_sentinels=8, multiple_of=16)
CONFIG = DecoderConfig(
    vocab_size=VOCABULARY.size, num_layers=3, d_model=32, num_heads=2, max_length=48, compute_dtype="float32"
)


IMAGES = ImageTokenizerConfig(
    resolution=8, channels=32, channel_multipliers=(1, 1), num_res_blocks=1, attention_resolutions=(),
    latent_channels=8, code_dim=4, num_codes=VOCABULARY.image_size,
)  # fmt: skip


def random_params(config):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    return jax.tree.map(lambda leaf: (rng.normal(size=leaf.shape) * 0.3).astype(np.float32), shapes)


def export(model, directory, *options):
    return main(["export", f"--decoder={model}", f"--directory={directory}", *options])


def import_(weights, directory):
    return main(["import", f"--weights={weights}", f"--directory={directory}"])
