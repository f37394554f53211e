"""Folders like those that published CLIPs come in, with random weights."""

import json
import pathlib

import numpy as np
import safetensors.numpy
from byte_pairs import learn

from cm3leon_jax.retrieval.clip.bpe import BytePairTokenizer
from cm3leon_jax.retrieval.clip.config import ClipConfig
from cm3leon_jax.retrieval.clip.encoders import abstract_params
from cm3leon_jax.retrieval.clip.published.names import HUGGING_FACE
from cm3leon_jax.runtime.model_folder import flatten

TINY = ClipConfig(
    compute_dtype="float32",
    embedding_dim=24,
    vocab_size=len(learn()[0]),
    text_width=32,
    text_layers=2,
    text_heads=4,
    image_resolution=24,
    patch_size=8,
    image_width=40,
    image_layers=3,
    image_heads=5,
)


def hugging_face_config(config: ClipConfig) -> dict:
    """`config.json`, as far as it differs from transformers' defaults, ids of control tokens included."""
    text = {"vocab_size": config.vocab_size, "max_position_embeddings": config.context_length}
    text |= {"bos_token_id": config.vocab_size - 2, "eos_token_id": config.vocab_size - 1}
    image = {"image_size": config.image_resolution, "patch_size": config.patch_size}
    for fields, width, layers, heads in (
        (text, config.text_width, config.text_layers, config.text_heads),
        (image, config.image_width, config.image_layers, config.image_heads),
    ):
        fields |= {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
        fields |= {"intermediate_size": config.mlp_ratio * width, "hidden_act": config.activation}
    return {
        "model_type": "clip",
        "projection_dim": config.embedding_dim,
        "text_config": text,
        "vision_config": image,
    }


def open_clip_config(config: ClipConfig) -> dict:
    text = {"context_length": config.context_length, "vocab_size": config.vocab_size, "width": config.text_width}
    text |= {"heads": config.text_heads, "layers": config.text_layers}
    image = {"image_size": config.image_resolution, "layers": config.image_layers, "width": config.image_width}
    image |= {"patch_size": config.patch_size, "head_width": config.image_width // config.image_heads}
    model = {"embed_dim": config.embedding_dim, "vision_cfg": image, "text_cfg": text}
    if config.activation == "quick_gelu":
        model["quick_gelu"] = True
    return {"model_cfg": model, "preprocess_cfg": {"mean": config.image_mean, "std": config.image_std}}


def hugging_face_tensors(config: ClipConfig, params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our flat parameters under Hugging Face's names."""
    tensors = {}
    for path, group in HUGGING_FACE.sources(config).items():
        values = params[path]
        for source, value in zip(group, values if "/blocks/" in path else [values], strict=True):
            if path == "image/patches/kernel":
                size = config.patch_size
                tensors[source.name] = value.reshape(size, size, 3, -1).transpose(3, 2, 0, 1)
            else:
                tensors[source.name] = source.view(value)  # transposing undoes itself
    return {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}


def openai_tensors(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hugging Face's tensors, renamed and fused as OpenAI's and open_clip's code has them."""
    names = {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    }
    parts = {
        "text_model.encoder.layers": "transformer.resblocks",
        "vision_model.encoder.layers": "visual.transformer.resblocks",
        "text_model.final_layer_norm": "ln_final",
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "self_attn": "attn",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    renamed = {}
    for name, tensor in tensors.items():
        if name in ("text_projection.weight", "visual_projection.weight"):
            renamed[{"t": "text_projection", "v": "visual.proj"}[name[0]]] = np.asarray(tensor.T, order="C")
            continue
        if ".k_proj." in name or ".v_proj." in name:
            continue
        new = names.get(name, name)
        for theirs, others in parts.items():
            new = new.replace(theirs, others)
        if ".q_proj." in name:
            new = new.replace(".q_proj.", ".in_proj_")
            tensor = np.concatenate([tensors[name.replace("q_proj", f"{part}_proj")] for part in "qkv"])
        renamed[new] = tensor
    return renamed


def random_params(config: ClipConfig, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Flat parameters, float32, rounded to `dtype`. Every tensor matters in them: fresh ones would have gains of one,
    biases of zero, and matrices so small that one activation is as good as another."""
    random = np.random.default_rng(0)
    params = {}
    for path, leaf in flatten(abstract_params(config)).items():
        values = random.standard_normal(leaf.shape, np.float32)
        if path.endswith(("bias", "scale", "class_token")):
            values = path.endswith("scale") + values / 10
        else:
            values *= leaf.shape[-1 if path.endswith(("tokens", "positions")) else -2] ** -0.5
        params[path] = values.astype(dtype).astype(np.float32)
    return params


def write_folder(folder: pathlib.Path, config: ClipConfig = TINY, dtype: str = "float32") -> dict[str, np.ndarray]:
    """A folder in Hugging Face's form; returns its weights as our flat parameters."""
    params = random_params(config, dtype)
    BytePairTokenizer(*learn(config.vocab_size)).save(folder)
    (folder / "config.json").write_text(json.dumps(hugging_face_config(config)))
    tensors = {name: tensor.astype(dtype) for name, tensor in hugging_face_tensors(config, params).items()}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return params


def make_open_clip(folder: pathlib.Path, config: ClipConfig = TINY) -> None:
    """Gives such a folder open_clip's form."""
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    safetensors.numpy.save_file(openai_tensors(tensors), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(open_clip_config(config)))
