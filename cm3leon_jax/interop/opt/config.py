"""Hugging Face's `config.json` of a decoder, and back."""

from __future__ import annotations

import dataclasses
from typing import Any

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import EOS_ID, PAD_ID

# What makes OPT the same function as our decoder, with the defaults of transformers' `OPTConfig`.
_REQUIRED: dict[str, tuple[Any, Any]] = {
    "model_type": ("opt", None),
    "do_layer_norm_before": (True, True),
    "_remove_final_layer_norm": (False, False),
    "enable_bias": (False, True),
    "layer_norm_elementwise_affine": (False, True),
    "tie_word_embeddings": (True, True),
}
_SIZES = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "max_length": "max_position_embeddings",
}


def opt_config(config: DecoderConfig, dtype: str) -> dict[str, Any]:
    """The fields of `config.json`. Raises `UserError` for a decoder that OPT cannot express."""
    if config.qk_norm:
        raise UserError("OPT has no QK-norm (DecoderConfig.qk_norm): this decoder cannot be exported to Hugging Face")
    if config.norm_epsilon != 1e-5:
        raise UserError(
            f"OPT's LayerNorm has an epsilon of 1e-5, this decoder {config.norm_epsilon}: it cannot be exported to "
            "Hugging Face"
        )
    return {
        "architectures": ["OPTForCausalLM"],
        **{name: value for name, (value, _) in _REQUIRED.items()},
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
        "word_embed_proj_dim": config.d_model,
        "ffn_dim": config.d_ffn,
        "activation_function": config.activation,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "layerdrop": 0.0,
        "init_std": config.init_std,
        "pad_token_id": PAD_ID,
        "bos_token_id": EOS_ID,
        "eos_token_id": EOS_ID,
        "dtype": dtype,
        "torch_dtype": dtype,  # the same, for versions before 5
    }


def decoder_config(values: Any, where: str, described: DecoderConfig | None = None) -> DecoderConfig:
    """The decoder that a `config.json` describes; settings that it does not hold are those of `described`.

    Raises `UserError` for one that our decoder is not.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where} is not the config of a model; take the file that was saved with the weights")
    for name, (wanted, default) in _REQUIRED.items():
        if (found := values.get(name, default)) != wanted:
            raise UserError(
                f"{where} has {name} = {found!r} where {wanted!r} is due: only OPT models without biases and LayerNorm "
                "parameters can be imported"
            )
    sizes = {ours: _number(values, theirs, where) for ours, theirs in _SIZES.items()}
    for name, wanted in (("word_embed_proj_dim", sizes["d_model"]), ("ffn_dim", 4 * sizes["d_model"])):
        if values.get(name, wanted) != wanted:
            raise UserError(f"{where} has {name} = {values[name]!r} where {wanted} is due: our decoders have no other")
    others = dataclasses.asdict(described) if described else {}
    return DecoderConfig(**others | sizes | {"activation": values.get("activation_function", "relu")})


def _number(values: dict, name: str, where: str) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{where} has {name} = {value!r} where a whole number of 1 or more is due; copy it again")
    return value
