"""The sizes of a published CLIP: Hugging Face's `config.json`, or open_clip's `open_clip_config.json`.

Both may leave out what equals their defaults. A setting that makes another architecture of it is refused.
"""

from __future__ import annotations

import pathlib
from typing import Any

from cm3leon_jax.retrieval.clip.config import ClipConfig
from cm3leon_jax.retrieval.clip.published.section import Section, read_section
from cm3leon_jax.runtime.errors import UserError

HUGGING_FACE_FILE = "config.json"
OPEN_CLIP_FILE = "open_clip_config.json"
_IMAGES_FILE = "preprocessor_config.json"  # Hugging Face keeps mean and deviation apart; open_clip does not


def read_config(folder: pathlib.Path, file: str) -> ClipConfig:
    """The config of the CLIP in `folder`, as its `file`, one of the two above, says. Raises `UserError`."""
    section = read_section(folder / file)
    if file == OPEN_CLIP_FILE:
        return _open_clip(section)
    images = folder / _IMAGES_FILE
    return _hugging_face(section, read_section(images) if images.exists() else Section({}, images))


def _hugging_face(config: Section, images: Section) -> ClipConfig:
    """The defaults are those of transformers' `CLIPTextConfig` and `CLIPVisionConfig`."""
    if (kind := config.values.get("model_type")) != "clip":
        raise UserError(f"{config.path} describes a model of type {kind!r}, not 'clip'; name the folder of a CLIP")
    text, vision = (  # old files say some settings twice, and the second counts
        config.section(f"{part}_config").updated(config.section(f"{part}_config_dict")) for part in ("text", "vision")
    )
    activation = text.values.get("hidden_act", "quick_gelu")
    vision.require("hidden_act", activation, default="quick_gelu")
    vision.require("num_channels", 3)
    for section in (text, vision):
        section.require("layer_norm_eps", 1e-5)
    text_width, image_width = text.number("hidden_size", 512), vision.number("hidden_size", 768)
    return ClipConfig(
        compute_dtype="float32",
        embedding_dim=config.number("projection_dim", 512),
        vocab_size=text.number("vocab_size", 49_408),
        context_length=text.number("max_position_embeddings", 77),
        text_width=text_width,
        text_layers=text.number("num_hidden_layers", 12),
        text_heads=text.number("num_attention_heads", 8),
        image_resolution=vision.number("image_size", 224),
        patch_size=vision.number("patch_size", 32),
        image_width=image_width,
        image_layers=vision.number("num_hidden_layers", 12),
        image_heads=vision.number("num_attention_heads", 12),
        mlp_ratio=_mlp_ratio(
            config,
            text.number("intermediate_size", 2048) / text_width,
            vision.number("intermediate_size", 3072) / image_width,
        ),
        activation=activation,
        **_pixel_statistics(images, "image_mean", "image_std"),
    )


def _open_clip(file: Section) -> ClipConfig:
    """The defaults are those of open_clip's `CLIPTextCfg` and `CLIPVisionCfg`."""
    config = file.section("model_cfg")
    text, vision = config.section("text_cfg"), config.section("vision_cfg")
    config.refuse_others("embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale")
    text.refuse_others("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio")
    vision.refuse_others("image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio")
    image_width = vision.number("width", 768)
    return ClipConfig(
        compute_dtype="float32",
        embedding_dim=config.number("embed_dim"),
        vocab_size=text.number("vocab_size", 49_408),
        context_length=text.number("context_length", 77),
        text_width=text.number("width", 512),
        text_layers=text.number("layers", 12),
        text_heads=text.number("heads", 8),
        image_resolution=vision.number("image_size", 224),
        patch_size=vision.number("patch_size", 16),
        image_width=image_width,
        image_layers=vision.number("layers", 12),
        image_heads=max(1, image_width // vision.number("head_width", 64)),
        mlp_ratio=_mlp_ratio(config, text.values.get("mlp_ratio", 4.0), vision.values.get("mlp_ratio", 4.0)),
        activation="quick_gelu" if config.values.get("quick_gelu") else "gelu",
        **_pixel_statistics(file.section("preprocess_cfg"), "mean", "std"),
    )


def _mlp_ratio(config: Section, text: Any, image: Any) -> int:
    if text != image or text not in range(1, 100):
        raise UserError(
            f"{config.path} has MLPs of {text} and {image} times the width; CLIPs are imported whose MLPs are the same "
            "whole multiple of the width for texts and images, as OpenAI's are"
        )
    return int(text)


def _pixel_statistics(images: Section, mean: str, std: str) -> dict[str, Any]:
    found = {"image_mean": images.channels(mean), "image_std": images.channels(std)}
    return {name: value for name, value in found.items() if value is not None}
