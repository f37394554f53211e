"""What a decoder is: its sizes and choices, and the arithmetic that follows from them (CM3Leon §3.1, table 2)."""

from __future__ import annotations

import dataclasses

from cm3leon_jax.documents import PositionRule
from cm3leon_jax.model.remat import POLICIES
from cm3leon_jax.runtime.compute_dtype import AUTO, Use, check_compute_dtype, fastest
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import CM3LEON

_CHOICES = {
    "activation": ("gelu", "relu"),
    "stack": ("scan", "unroll"),
    "remat": POLICIES,
    "attention": ("auto", "xla", "cudnn", "splash", "splash_library", "reference"),
}


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """A decoder of the OPT shape: pre-LayerNorm, no biases, no dropout, learned positions, tied embeddings."""

    num_layers: int
    d_model: int
    num_heads: int
    vocab_size: int = CM3LEON.size  # rows of the embedding table: `Vocabulary.size`; training takes it from the data
    max_length: int = 4096  # tokens; rows of the position table
    # Both 0: a token's position is its index, as in the paper. Else see `documents.PositionRule`; positions then run
    # ahead of tokens, and max_length must hold them.
    position_stride: int = 0  # what follows a <break> begins at the next multiple
    query_position: int = 0  # where the query document begins; the retrieved ones stand before it
    activation: str = "gelu"  # "gelu" (exact, by erf: Hugging Face OPT's "gelu") or "relu" (OPT itself)
    qk_norm: bool = False  # LayerNorm on queries and keys of each head; Chameleon needed it at 7B
    norm_epsilon: float = 1e-5
    init_std: float = 0.006  # of every matrix, before the cut at ±3 std; small widths learn faster with ~1/√d_model
    position_init_std: float = 0.0002
    # Of activations and matrix products; weights, softmax and loss are float32. "auto": the faster one of the platform,
    # for training and for sampling (`runtime/compute_dtype.py`).
    compute_dtype: str = "auto"
    stack: str = "scan"  # "scan": one layer is compiled and looped over; "unroll": faster where the model is small
    remat: str = "none"  # what the backward pass computes again; the policies are in model/remat.py
    attention: str = "auto"  # "auto": by platform; see model/attention.py

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"DecoderConfig.{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        check_compute_dtype(self)
        for name in ("vocab_size", "num_layers", "d_model", "num_heads", "max_length"):
            if getattr(self, name) < 1:
                raise UserError(f"DecoderConfig.{name} is {getattr(self, name)}; it must be at least 1")
        if self.d_model % self.num_heads:
            raise UserError(f"d_model {self.d_model} does not divide into {self.num_heads} heads; change one of them")

    @property
    def head_dim(self) -> int:
        return self.d_model // self.num_heads

    @property
    def d_ffn(self) -> int:
        return 4 * self.d_model

    @property
    def position_rule(self) -> PositionRule:
        return PositionRule(self.position_stride, self.query_position)

    def computing_in(self, use: Use, platform: str) -> DecoderConfig:
        """The same with a definite compute dtype, the one for training or sampling on a platform where it is "auto"."""
        if self.compute_dtype != AUTO:
            return self
        return dataclasses.replace(self, compute_dtype=fastest(use, platform))


def non_embedding_parameters(config: DecoderConfig) -> int:
    """Weights of the layers: 12 d² each (QK-norm and LayerNorm have none)."""
    return config.num_layers * 12 * config.d_model**2


def parameter_count(config: DecoderConfig) -> int:
    """All weights; the tied embedding counts once."""
    return non_embedding_parameters(config) + (config.vocab_size + config.max_length) * config.d_model


def training_flops_per_token(config: DecoderConfig, length: int | None = None) -> float:
    """FLOPs of one training step a token, forward and backward, at sequences of `length` tokens (default: the longest).

    6 × (non-embedding + output-projection parameters) + 6 × layers × length × d_model: causal attention counted once,
    recomputation not at all. MFU = this × tokens/s ÷ the peak of the devices.
    """
    length = config.max_length if length is None else length
    matrices = non_embedding_parameters(config) + config.vocab_size * config.d_model
    return 6.0 * matrices + 6.0 * config.num_layers * length * config.d_model
