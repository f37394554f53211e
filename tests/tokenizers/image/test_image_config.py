import pytest

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig, ImageTokenizerTraining


def test_defaults_are_the_papers():
    config = ImageTokenizerConfig()
    assert (config.resolution, config.reduction, config.tokens_per_image, config.num_codes) == (256, 8, 1024, 8192)
    assert config.grid == (32, 32)
    assert config.level_widths == (256, 128, 64, 32)


def test_chameleons_size():
    config = ImageTokenizerConfig(resolution=512, channel_multipliers=(1, 1, 2, 2, 4), attention_resolutions=())
    assert (config.reduction, config.tokens_per_image) == (16, 1024)


def test_folded_patches_count_towards_the_reduction():
    config = ImageTokenizerConfig(resolution=64, patch_size=4, channel_multipliers=(1, 2))
    assert (config.reduction, config.grid, config.level_widths) == (8, (8, 8), (16, 8))


@pytest.mark.parametrize(
    "settings",
    [{"resolution": 100}, {"channels": 40}, {"compute_dtype": "float16"}],
)
def test_settings_that_do_not_fit(settings):
    with pytest.raises(UserError):
        ImageTokenizerConfig(**settings)


def test_unknown_ways_of_learning():
    with pytest.raises(UserError, match="codebook"):
        ImageTokenizerTraining(codebook="guess")
