"""The same images by `generate` of Hugging Face's transformers on the exported decoder, in a process of its own."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import torch
import transformers
from sampling_case import SamplingCase


class OnlyCodes(transformers.LogitsProcessor):
    """Forbids what is no image code."""

    def __init__(self, first: int, count: int):
        self._first, self._stop = first, first + count

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        allowed = torch.full_like(scores, -torch.inf)
        allowed[:, self._first : self._stop] = scores[:, self._first : self._stop]
        return allowed


class TorchSampler:
    """`cache`: "dynamic" or "static"; `compiled`: the forward pass by torch.compile."""

    def __init__(self, sizes: dict[str, Any], *, exported: str, dtype: str, cache: str, compiled: bool, device: str):
        case = SamplingCase(**sizes)
        if device == "gpu" and not torch.cuda.is_available():
            raise ImportError("PyTorch sees no CUDA device")
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        place = torch.device("cuda" if device == "gpu" else "cpu")
        model = transformers.OPTForCausalLM.from_pretrained(exported, dtype=getattr(torch, dtype)).to(place).eval()
        if compiled:
            model.forward = torch.compile(model.forward, dynamic=cache == "dynamic")
        with open(f"{exported}/cm3leon.json") as file:
            ids = json.load(file)["ids"]
        prompts = torch.tensor([[ids["eos"], *text.tolist(), ids["break"]] for text in case.texts()])
        without = torch.tensor([[ids["eos"], ids["first_sentinel"], ids["break"]]] * case.rows)
        settings = {
            "negative_prompt_ids": without.to(place),
            "guidance_scale": case.guidance_scale,
            "top_p": case.top_p,
            "top_k": 0,
            "do_sample": True,
            "max_new_tokens": case.image_tokens,
            "min_new_tokens": case.image_tokens,
            "logits_processor": [OnlyCodes(ids["first_image_code"], ids["image_codes"])],
        }
        if cache == "static":
            settings["cache_implementation"] = "static"
        prompts = prompts.to(place)
        attended = torch.ones_like(prompts)

        @torch.inference_mode()
        def draw() -> torch.Tensor:
            return model.generate(prompts, attention_mask=attended, **settings)[:, prompts.shape[1] :]

        self._draw = draw
        started = time.perf_counter()
        codes = draw() - ids["first_image_code"]
        if codes.shape != (case.rows, case.image_tokens) or not (codes >= 0).all() & (codes < ids["image_codes"]).all():
            raise RuntimeError(f"not {case.rows} images: {codes.shape}")
        self.about: dict[str, Any] = {
            "dtype": str(model.dtype).removeprefix("torch."),
            "first_call_seconds": round(time.perf_counter() - started, 2),
            "version": f"torch {torch.__version__}, transformers {transformers.__version__}",
        }

    def run(self, steps: int) -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(steps):
            codes = self._draw()
        if codes.is_cuda:
            torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - started, "distinct": len(codes.unique())}
