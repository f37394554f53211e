"""The sizes of CLIP and how it is trained. The defaults are ViT-B/32 (Radford et al. 2021), which CM3Leon uses."""

from __future__ import annotations

import dataclasses

from cm3leon_jax.runtime.compute_dtype import AUTO, check_compute_dtype
from cm3leon_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """The architecture of OpenAI's CLIP; every tensor has its counterpart in Hugging Face's `CLIPModel`."""

    embedding_dim: int = 512
    # Text encoder: a causal transformer.
    vocab_size: int = 56_320  # set by training to the size of the text tokenizer
    context_length: int = 77  # tokens, the closing eos included; longer texts are cut
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    # Image encoder: a vision transformer.
    image_resolution: int = 224  # pixels; images of other sizes are resized
    patch_size: int = 32  # pixels
    image_width: int = 768
    image_layers: int = 12
    image_heads: int = 12
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)  # RGB in 0..1, as OpenAI's CLIP
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    mlp_ratio: int = 4  # hidden units of the MLP for each unit of width
    activation: str = "quick_gelu"  # of the MLP; OpenAI's weights were trained with it, most of open_clip's with "gelu"
    # Of products; weights, softmax and loss are float32. "auto": in training the faster one of the platform
    # (`runtime/compute_dtype.py`), afterwards float32, so that a document has the same embedding everywhere.
    compute_dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.image_resolution % self.patch_size:
            raise UserError(f"patches of {self.patch_size} pixels do not divide images of {self.image_resolution}")
        if self.text_width % self.text_heads or self.image_width % self.image_heads:
            raise UserError("the widths of a retriever must be multiples of its numbers of heads")
        if self.context_length < 2:
            raise UserError(f"context_length {self.context_length} has no room for a token and its eos; use 2 or more")
        if self.activation not in ("quick_gelu", "gelu"):
            raise UserError(f"a retriever with activation {self.activation!r}; use 'quick_gelu' or 'gelu'")
        check_compute_dtype(self)

    @property
    def dtype(self) -> str:
        """The compute dtype of a retriever that is not in training."""
        return "float32" if self.compute_dtype == AUTO else self.compute_dtype

    @property
    def num_patches(self) -> int:
        return (self.image_resolution // self.patch_size) ** 2


@dataclasses.dataclass(frozen=True)
class RetrieverTrainingConfig:
    """AdamW, linear warm-up, cosine decay to zero. The defaults are those of CLIP ViT-B/32 at a batch of 32,768."""

    batch_size: int = 32_768  # pairs; every other pair of the batch is a negative. A multiple of the devices
    peak_learning_rate: float = 5e-4
    warmup_steps: int = 2_000
    weight_decay: float = 0.2  # not on biases, gains, the class embedding and the logit scale
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    clip_norm: float = 1.0  # largest global gradient norm
    max_logit_scale: float = 100.0  # the learned inverse temperature is kept at or below it
    seed: int = 0
