"""The warm start is a linear map of patches that reconstructs at once, and is the same for the same images."""

import numpy as np
import pytest

from cm3leon_jax.data.scenes.render import render
from cm3leon_jax.data.scenes.world import WorldConfig, sample_scene
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.model_folder import flatten
from cm3leon_jax.tokenizers.image import warm_start
from cm3leon_jax.tokenizers.image.autoencoder import init_params
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
from cm3leon_jax.tokenizers.image.evaluation import psnr
from cm3leon_jax.tokenizers.image.tokenizer import untrained

CONFIG = ImageTokenizerConfig(
    resolution=32,
    patch_size=4,
    channels=64,
    channel_multipliers=(1,),
    num_res_blocks=1,
    attention_resolutions=(),
    norm_groups=0,
    latent_channels=24,
    code_dim=24,
    num_codes=256,
)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    config = WorldConfig(jitter=0.0, backgrounds=("white",))
    return np.stack([render(sample_scene(rng, config), 32).image for _ in range(200)])


@pytest.fixture(scope="module")
def started(images):
    return warm_start.warm_started(init_params(CONFIG, 0), CONFIG, images[:150], seed=0)


def test_it_reconstructs_unseen_images_before_any_training(images, started):
    params, _ = started
    tokenizer = untrained(CONFIG).with_params(params)
    rebuilt = tokenizer.decode(tokenizer.encode(images[150:]))
    random = untrained(CONFIG).with_params(init_params(CONFIG, 0))
    assert psnr(images[150:], rebuilt).mean() > 25
    assert psnr(images[150:], random.decode(random.encode(images[150:]))).mean() < 15


def test_plain_background_has_one_code_whatever_else_is_in_the_image(images, started):
    params, _ = started
    codes = untrained(CONFIG).with_params(params).encode(images)
    plain = (images.reshape(len(images), 8, 4, 8, 4, 3) == 250).all(axis=(2, 4, 5)).reshape(len(images), -1)
    assert len(np.unique(codes[plain])) == 1


def test_it_is_deterministic_and_keeps_the_tree(images, started):
    again, usage = warm_start.warm_started(init_params(CONFIG, 0), CONFIG, images[:150], seed=0)
    first, second = flatten(started[0]), flatten(again)
    assert first.keys() == second.keys() == flatten(init_params(CONFIG, 0)).keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert usage.counts.shape == (256,) and usage.sums.shape == (256, 24)


@pytest.mark.parametrize("change", [{"norm_groups": 8}, {"channels": 32}, {"code_dim": 8}])
def test_an_architecture_that_cannot_start_so_is_refused(change):
    fields = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__} | change
    with pytest.raises(UserError, match="start = 'patches' needs"):
        warm_start.check(ImageTokenizerConfig(**fields))
