"""Settings of the image tokenizer and of its training. The defaults are the paper's size."""

from __future__ import annotations

import dataclasses

from cm3leon_jax.runtime.compute_dtype import AUTO, check_compute_dtype
from cm3leon_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class ImageTokenizerConfig:
    """Architecture: VQGAN's (Esser et al. 2021), at f = 8 with 8192 codes as CM3Leon §2.1 and Make-A-Scene have it."""

    resolution: int = 256  # pixels on a side
    patch_size: int = 1  # pixels on a side folded into channels before the first convolution; 1: none, as in VQGAN
    channels: int = 128  # of the first level
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 4)  # one for each level; levels are a factor of 2 apart
    num_res_blocks: int = 2  # of a level of the encoder; the decoder's levels have one more
    attention_resolutions: tuple[int, ...] = (32,)  # widths of the levels with attention; the middle always has it
    norm_groups: int = (
        32  # of every GroupNorm; 0: no norms, so that a patch gets its codes whatever else is in the image
    )
    latent_channels: int = 256  # between the encoder or decoder and the 1x1 convolutions around the codebook
    code_dim: int = 256  # length of a code's vector
    num_codes: int = 8192
    # Of convolutions and attention; norms and the codebook are float32. "auto": in training the faster one of the
    # platform (`runtime/compute_dtype.py`), afterwards float32, so that an image has the same codes everywhere.
    compute_dtype: str = "auto"

    def __post_init__(self) -> None:
        check_compute_dtype(self)
        if self.resolution % self.reduction:
            raise UserError(
                f"resolution {self.resolution} is not a multiple of {self.reduction} (patch_size x 2^(levels - 1)); "
                "change one of them"
            )
        uneven = [width for width in self.level_channels if self.norm_groups and width % self.norm_groups]
        if uneven:
            raise UserError(f"{uneven[0]} channels do not divide into {self.norm_groups} groups; lower norm_groups")

    @property
    def dtype(self) -> str:
        """The compute dtype of a tokenizer that is not in training."""
        return "float32" if self.compute_dtype == AUTO else self.compute_dtype

    @property
    def level_channels(self) -> tuple[int, ...]:
        return tuple(self.channels * multiplier for multiplier in self.channel_multipliers)

    @property
    def level_widths(self) -> tuple[int, ...]:
        """Rows (= columns) of the feature map at each level."""
        return tuple(self.resolution // self.patch_size >> level for level in range(len(self.channel_multipliers)))

    @property
    def reduction(self) -> int:
        """Pixels on a side that one token covers: f of the paper."""
        return self.patch_size * 2 ** (len(self.channel_multipliers) - 1)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of codes of an image."""
        return (self.resolution // self.reduction,) * 2

    @property
    def tokens_per_image(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclasses.dataclass(frozen=True)
class ImageTokenizerTraining:
    """How the tokenizer is trained. Losses are means over pixels in [-1, 1]; steps are optimizer steps."""

    batch_size: int = 256  # images, of all devices together; a multiple of their number
    seed: int = 0  # of the initialisation and of the codes' revival

    start: str = "random"  # or "patches": from principal components and k-means of patches; see warm_start.py
    start_images: int = 2048  # images that start = "patches" looks at
    encoder_rate: float = 1.0  # share of the learning rate for the encoder; lower where the start is good already
    learning_rate: float = 1e-4  # peak
    warmup_steps: int = 1000
    final_learning_rate: float = 0.0  # share of the peak that the cosine ends at
    betas: tuple[float, float] = (0.5, 0.9)  # of Adam, as VQGAN's
    clip_norm: float = 1.0  # of the whole gradient

    l1_weight: float = 1.0
    l2_weight: float = 0.0
    # 0: every pixel counts the same. k: a pixel's weight is (1 + k c) / (1 + k), c being its distance from the image's
    # mean colour over that distance's mean; for images that are mostly plain background.
    contrast_weight: float = 0.0
    perceptual_loss: str = "none"  # a name given to `register_perceptual_loss`
    perceptual_weight: float = 1.0

    commitment_weight: float = 0.25
    codebook: str = "ema"  # codes follow the encoder's outputs by moving averages; or "loss": by gradient descent
    codebook_weight: float = 1.0  # of the codebook loss, where codebook = "loss"
    ema_decay: float = 0.99  # of the codes' usage and, where codebook = "ema", of the codes
    # Until this step latents pass unquantised; then the codebook is set by k-means++ from the encoder's outputs.
    quantize_from_step: int = 0
    # A code is dead when its moving-average uses a step fall below this share of an even distribution.
    dead_code_threshold: float = 0.02
    revive_every: int = 100  # steps; 0: never

    discriminator_start: int = 250_000  # step; at or beyond the run's last step: no discriminator
    discriminator_weight: float = 0.8  # on top of VQGAN's adaptive weight
    discriminator_learning_rate: float = 1e-4
    discriminator_channels: int = 64  # of the first of its layers
    discriminator_layers: int = 3  # strided layers

    def __post_init__(self) -> None:
        if self.codebook not in ("ema", "loss"):
            raise UserError(f"codebook is {self.codebook!r}; name 'ema' or 'loss'")
        if self.start not in ("random", "patches"):
            raise UserError(f"start is {self.start!r}; name 'random' or 'patches'")
