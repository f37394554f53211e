"""How fast training is: tokens a second, and the share of the devices' peak that useful FLOPs make up (MFU)."""

from __future__ import annotations

import jax

from cm3leon_jax.model.config import DecoderConfig, training_flops_per_token
from cm3leon_jax.planning.chips import CHIPS

# Dense bfloat16 FLOP/s of one device, from the makers' data sheets; by the beginning of `device_kind`, longest first.
_PEAK_FLOPS = {
    "TPU v6 lite": CHIPS["v6e"].peak_flops,
    "TPU v5 lite": CHIPS["v5e"].peak_flops,
    "TPU v5e": CHIPS["v5e"].peak_flops,
    "TPU v5p": CHIPS["v5p"].peak_flops,
    "TPU v5": CHIPS["v5p"].peak_flops,
    "TPU v4": CHIPS["v4"].peak_flops,
    "NVIDIA H200": 989e12,
    "NVIDIA H100": 989e12,
    "NVIDIA A100": 312e12,
}


def peak_flops(device: jax.Device) -> float | None:
    """Of one device, in bfloat16; None where it is not known (CPUs)."""
    return next((peak for kind, peak in _PEAK_FLOPS.items() if device.device_kind.startswith(kind)), None)


def throughput(config: DecoderConfig, length: int, tokens_per_second: float, devices: int) -> dict[str, float]:
    """Metrics for a run on `devices` devices at sequences of `length` tokens; `mfu` where the peak is known."""
    metrics = {"tokens_per_second": tokens_per_second, "tokens_per_second_per_device": tokens_per_second / devices}
    peak = peak_flops(jax.devices()[0])
    if peak is not None:
        metrics["mfu"] = training_flops_per_token(config, length) * tokens_per_second / (peak * devices)
    return metrics
