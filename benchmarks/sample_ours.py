"""Drawing images by our sampling engine, in a process of its own (`worker.py`)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sampling_case import SamplingCase


class OurSampler:
    def __init__(self, sizes: dict[str, Any], *, decoder: str, dtype: str, device: str):
        case = SamplingCase(**sizes)
        import dataclasses

        import jax

        from cm3leon_jax.model.folder import load_decoder
        from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
        from cm3leon_jax.sampling import prompts
        from cm3leon_jax.sampling.generate import Engine
        from cm3leon_jax.sampling.rules import SamplingConfig

        if jax.default_backend() != device:
            raise ImportError(f"JAX's default backend here is {jax.default_backend()}, not {device}")
        config, vocabulary, params = load_decoder(decoder)
        config = dataclasses.replace(config, compute_dtype=dtype)
        partitioning = Partitioning(make_mesh(MeshConfig()))
        asked = [
            prompts.text_to_image(text, [], image_tokens=case.image_tokens, vocabulary=vocabulary)
            for text in case.texts()
        ]
        rule = SamplingConfig(rule="guided", guidance_scale=case.guidance_scale, top_p=case.top_p)

        engine = Engine(params, config, vocabulary, batch_size=case.rows, partitioning=partitioning)

        def draw(seed: int) -> np.ndarray:
            results = engine.draw(asked, dataclasses.replace(rule, seed=seed))
            return np.stack([result.image for (result,) in results])

        self._draw, self._case, self._seed = draw, case, 0
        started = time.perf_counter()
        draw(0)
        self.about: dict[str, Any] = {
            "dtype": config.compute_dtype,
            "first_call_seconds": round(time.perf_counter() - started, 2),
            "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
            "version": f"jax {jax.__version__}",
        }

    def run(self, steps: int) -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(steps):
            self._seed += 1
            codes = self._draw(self._seed)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "distinct": len(np.unique(codes))}
