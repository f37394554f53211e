"""Which published tensor is which of our parameters, for the two ways in which CLIPs name them.

Hugging Face's `CLIPModel` names one tensor for each parameter. OpenAI's own code, and open_clip after it, keeps query,
key and value in one tensor, and projections the other way round.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from cm3leon_jax.retrieval.clip.config import ClipConfig
from cm3leon_jax.retrieval.clip.published.config import HUGGING_FACE_FILE, OPEN_CLIP_FILE
from cm3leon_jax.runtime.errors import UserError

View = Callable[[np.ndarray], np.ndarray]


class Source(NamedTuple):
    """A published tensor, and how to look at it to see our parameter.

    `view` may raise ValueError or IndexError on a tensor of a wrong shape.
    """

    name: str
    view: View = np.asarray


class Naming(NamedTuple):
    """One way of naming tensors. `others` are no parameters and may be there or not."""

    config_files: tuple[str, ...]  # what says the sizes, the first that is there
    outer: Mapping[str, Source]
    block: Callable[[str], Mapping[str, Source]]  # of the prefix of a transformer block's tensors
    prefixes: Mapping[str, str]  # those prefixes, for our stacks
    others: frozenset[str]

    def sources(self, config: ClipConfig) -> dict[str, list[Source]]:
        """For each of our parameters its source, or, of stacked blocks, those of all layers."""
        found = {path: [source] for path, source in self.outer.items()}
        for tower, layers in (("text", config.text_layers), ("image", config.image_layers)):
            blocks = [self.block(self.prefixes[tower].format(layer)) for layer in range(layers)]
            found |= {f"{tower}/stack/blocks/{path}": [block[path] for block in blocks] for path in blocks[0]}
        return found


def recognise(names: Iterable[str]) -> Naming:
    """The naming that a file's tensors follow. Raises `UserError` where it is neither."""
    names = set(names)
    for naming in (HUGGING_FACE, OPENAI):
        if naming.outer["image/class_token"].name in names:
            return naming
    raise UserError(
        "the weights are not those of a CLIP with a vision transformer, in Hugging Face's or OpenAI's names "
        f"(they begin with {', '.join(sorted(names)[:3]) or 'nothing'}); name the folder of one, say OpenAI's ViT-B/32"
    )


def _norm(ours: str, theirs: str) -> dict[str, Source]:
    return {f"{ours}/scale": Source(f"{theirs}.weight"), f"{ours}/bias": Source(f"{theirs}.bias")}


def _linear(ours: str, theirs: str) -> dict[str, Source]:
    return {f"{ours}/kernel": Source(f"{theirs}.weight", np.transpose), f"{ours}/bias": Source(f"{theirs}.bias")}


def _patches(weight_WxCxPxP: np.ndarray) -> np.ndarray:
    """A convolution's weights as a matrix on patches, as `split_patches` flattens them."""
    return weight_WxCxPxP.transpose(2, 3, 1, 0).reshape(-1, len(weight_WxCxPxP))


def _scalar(value: np.ndarray) -> np.ndarray:
    """Some files keep it as an array of one number."""
    return value.reshape(())


def _third(index: int, array: np.ndarray) -> np.ndarray:
    return np.transpose(np.split(array, 3)[index])


def _hugging_face_block(prefix: str) -> dict[str, Source]:
    sources = _norm("norm1", f"{prefix}.layer_norm1") | _norm("norm2", f"{prefix}.layer_norm2")
    for ours, theirs in {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}.items():
        sources |= _linear(ours, f"{prefix}.self_attn.{theirs}")
    return sources | _linear("expand", f"{prefix}.mlp.fc1") | _linear("contract", f"{prefix}.mlp.fc2")


def _openai_block(prefix: str) -> dict[str, Source]:
    sources = _norm("norm1", f"{prefix}.ln_1") | _norm("norm2", f"{prefix}.ln_2")
    for index, ours in enumerate(("query", "key", "value")):
        view = functools.partial(_third, index)
        sources[f"{ours}/kernel"] = Source(f"{prefix}.attn.in_proj_weight", view)
        sources[f"{ours}/bias"] = Source(f"{prefix}.attn.in_proj_bias", view)
    sources |= _linear("output", f"{prefix}.attn.out_proj")
    return sources | _linear("expand", f"{prefix}.mlp.c_fc") | _linear("contract", f"{prefix}.mlp.c_proj")


HUGGING_FACE = Naming(
    config_files=(HUGGING_FACE_FILE,),
    outer={
        "logit_scale": Source("logit_scale", _scalar),
        "text/tokens": Source("text_model.embeddings.token_embedding.weight"),
        "text/positions": Source("text_model.embeddings.position_embedding.weight"),
        "text/projection/kernel": Source("text_projection.weight", np.transpose),
        "image/patches/kernel": Source("vision_model.embeddings.patch_embedding.weight", _patches),
        "image/class_token": Source("vision_model.embeddings.class_embedding"),
        "image/positions": Source("vision_model.embeddings.position_embedding.weight"),
        "image/projection/kernel": Source("visual_projection.weight", np.transpose),
        **_norm("text/norm", "text_model.final_layer_norm"),
        **_norm("image/norm_in", "vision_model.pre_layrnorm"),
        **_norm("image/norm", "vision_model.post_layernorm"),
    },
    block=_hugging_face_block,
    prefixes={"text": "text_model.encoder.layers.{}", "image": "vision_model.encoder.layers.{}"},
    others=frozenset({"text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}),
)

OPENAI = Naming(
    config_files=(OPEN_CLIP_FILE, HUGGING_FACE_FILE),
    outer={
        "logit_scale": Source("logit_scale", _scalar),
        "text/tokens": Source("token_embedding.weight"),
        "text/positions": Source("positional_embedding"),
        "text/projection/kernel": Source("text_projection"),
        "image/patches/kernel": Source("visual.conv1.weight", _patches),
        "image/class_token": Source("visual.class_embedding"),
        "image/positions": Source("visual.positional_embedding"),
        "image/projection/kernel": Source("visual.proj"),
        **_norm("text/norm", "ln_final"),
        **_norm("image/norm_in", "visual.ln_pre"),
        **_norm("image/norm", "visual.ln_post"),
    },
    block=_openai_block,
    prefixes={"text": "transformer.resblocks.{}", "image": "visual.transformer.resblocks.{}"},
    others=frozenset({"input_resolution", "context_length", "vocab_size", "attn_mask"}),
)
