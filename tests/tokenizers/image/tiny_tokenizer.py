"""A tokenizer that trains within seconds: its settings and its images."""

import numpy as np

from cm3leon_jax.runtime.loop import LoopConfig
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig, ImageTokenizerTraining

TINY = ImageTokenizerConfig(
    resolution=16,
    channels=8,
    channel_multipliers=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(),
    norm_groups=4,
    latent_channels=8,
    code_dim=4,
    num_codes=32,
)
TRAINING = ImageTokenizerTraining(
    batch_size=8,
    learning_rate=5e-3,
    warmup_steps=2,
    quantize_from_step=3,
    revive_every=4,
    contrast_weight=1.0,
    discriminator_start=6,
    discriminator_channels=4,
    discriminator_layers=2,
)
LOOP = LoopConfig(steps=12, log_every=1, evaluate_every=6, checkpoint_every=5)


def squares(seed: int, count: int) -> np.ndarray:
    """Images uint8 [count, 16, 16, 3]: a coloured square on a light ground."""
    rng = np.random.default_rng(seed)
    images = np.full((count, 16, 16, 3), 240, np.uint8)
    for image in images:
        row, column = rng.integers(0, 10, 2)
        image[row : row + 6, column : column + 6] = rng.integers(0, 200, 3)
    return images


def batch_of_step(step: int) -> np.ndarray:
    return squares(step, TRAINING.batch_size)
