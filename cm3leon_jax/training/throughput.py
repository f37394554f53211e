"""How fast training is: tokens a second, and the share of the devices' peak that useful FLOPs make up (MFU)."""

from __future__ import annotations

import jax

from cm3leon_jax.model.config import DecoderConfig, training_flops_per_token

# Dense bfloat16 FLOP/s of one device, from the makers' data sheets; by the beginning of `device_kind`, longest first.
_PEAK_FLOPS = {
    "TPU v6 lite": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100": 989e12,
    "NVIDIA A100": 312e12,
}


def peak_flops(device: jax.Device) -> float | None:
    """Of one device, in bfloat16; None where it is not known (CPUs)."""
    return next((peak for kind, peak in _PEAK_FLOPS.items() if device.device_kind.startswith(kind)), None)


def throughput(config: DecoderConfig, length: int, tokens_per_second: float, devices: int) -> dict[str, float]:
    """Metrics for a run on `devices` devices at sequences of `length` tokens; `mfu` where the peak is known."""
    metrics = {"tokens_per_second": tokens_per_second}
    peak = peak_flops(jax.devices()[0])
    if peak is not None:
        metrics["mfu"] = training_flops_per_token(config, length) * tokens_per_second / (peak * devices)
    return metrics
