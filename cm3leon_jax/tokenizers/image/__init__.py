"""The image tokenizer: a VQGAN, image <-> a grid of codes (CM3Leon §2.1: 256x256 pixels -> 1024 of 8192 codes)."""

from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig, ImageTokenizerTraining
from cm3leon_jax.tokenizers.image.evaluation import evaluate_image_tokenizer, reconstruction_picture
from cm3leon_jax.tokenizers.image.losses import register_perceptual_loss
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
from cm3leon_jax.tokenizers.image.train import train_image_tokenizer

__all__ = [
    "ImageTokenizer",
    "ImageTokenizerConfig",
    "ImageTokenizerTraining",
    "evaluate_image_tokenizer",
    "reconstruction_picture",
    "register_perceptual_loss",
    "train_image_tokenizer",
]
