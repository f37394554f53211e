"""An image tokenizer -> a folder that `ChameleonVQVAE.from_pretrained` of transformers loads, and `load_published`."""

from __future__ import annotations

import numpy as np
import safetensors.numpy

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, new_directory, write_json
from cm3leon_jax.runtime.model_folder import flatten
from cm3leon_jax.runtime.tensor_files import FILE
from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
from cm3leon_jax.tokenizers.image.published.architecture import NORM_GROUPS
from cm3leon_jax.tokenizers.image.published.names import as_published, published_name
from cm3leon_jax.tokenizers.image.published.settings import CONFIG_FILE, HUGGING_FACE, MODEL_TYPE
from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer

IMAGES_FILE = "preprocessor_config.json"
_BICUBIC = 3  # as Pillow numbers it


def export_hugging_face(tokenizer: ImageTokenizer, directory: Path) -> None:
    """Writes config, weights in float32 and the images' preprocessing, whole or not at all.

    `model.safetensors` holds the decoder too, under taming-transformers' names: `ChameleonVQVAE` has none, and passes
    over it. Raises `UserError` where a setting has no counterpart in `ChameleonVQVAE`.
    """
    config = tokenizer.config
    _refuse_what_has_no_counterpart(config)
    tensors = {
        published_name(path): np.ascontiguousarray(as_published(value))
        for path, value in flatten(tokenizer.params).items()
    }
    with new_directory(directory) as aside:
        write_json(aside / CONFIG_FILE, _hugging_face_config(config))
        write_json(aside / IMAGES_FILE, _image_processor(config.resolution))
        safetensors.numpy.save_file(tensors, aside / FILE, metadata={"format": "pt"})


def _refuse_what_has_no_counterpart(config: ImageTokenizerConfig) -> None:
    for name, value, due, way in (
        ("patch_size", config.patch_size, 1, "train a tokenizer with it"),
        ("norm_groups", config.norm_groups, NORM_GROUPS, "train a tokenizer with it"),
        # The same weights, but codes computed otherwise would not be those that a model was trained on.
        ("compute_dtype", config.dtype, "float32", "set it in the tokenizer's config.json, which changes some codes"),
    ):
        if value != due:
            raise UserError(f"{name} is {value!r}, and Hugging Face's ChameleonVQVAE knows only {due!r}; {way}")


def _hugging_face_config(config: ImageTokenizerConfig) -> dict:
    return {
        "architectures": ["ChameleonVQVAE"],
        "model_type": MODEL_TYPE,
        "dtype": "float32",
        "resolution": config.resolution,
        **{theirs: getattr(config, ours) for theirs, ours in HUGGING_FACE.items()},
        "attn_resolutions": [width for width in config.level_widths if width in config.attention_resolutions],
        "attn_type": "vanilla",
        "double_latent": False,
        "dropout": 0.0,
        "in_channels": 3,
    }


def _image_processor(resolution: int) -> dict:
    """Pixels as the tokenizer sees them, x / 127.5 - 1. (Chameleon's own file rounds the factor to 0.0078.)"""
    return {
        "image_processor_type": "ChameleonImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": resolution},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": resolution, "width": resolution},
        "do_rescale": True,
        "rescale_factor": 1 / 127.5,
        "do_normalize": True,
        "image_mean": [1.0, 1.0, 1.0],
        "image_std": [1.0, 1.0, 1.0],
    }
