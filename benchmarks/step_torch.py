"""The same training step by Hugging Face's OPT in PyTorch, in a process of its own (`worker.py`).

OPT without biases and LayerNorm parameters is the same function (`cm3leon_jax.interop.opt`). What makes it fast is
chosen: scaled-dot-product attention told that it is causal, fused AdamW, one thread a core, optionally torch.compile.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import torch
import transformers
from case import Case, make_batch, make_weights

from cm3leon_jax.interop.opt.config import opt_config
from cm3leon_jax.interop.opt.names import TIED, opt_tensors
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.runtime.model_folder import flatten


class TorchStep:
    """`precision`: "float32"; "autocast", matrix products in bfloat16; "master", all in bfloat16 but for the weights
    that AdamW moves."""

    def __init__(self, sizes: dict[str, Any], *, precision: str, compiled: bool, device: str):
        case = Case(**sizes)
        if device == "gpu" and not torch.cuda.is_available():
            raise ImportError("PyTorch sees no CUDA device")
        self._device = torch.device("cuda" if device == "gpu" else "cpu")
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.set_float32_matmul_precision("highest")
        self._case, self._precision = case, precision
        self._model = opt_with(case, make_weights(case)).to(self._device)
        batch = make_batch(case)
        self._tokens, self._targets, self._positions = (
            torch.from_numpy(np_array.copy()).long().to(self._device)
            for np_array in (batch["tokens"], batch["targets"], batch["positions"])
            if np_array is not None
        )
        self._masters = [parameter.detach().clone() for parameter in self._model.parameters()]
        if precision == "master":
            self._model.bfloat16()
        self._weights = list(self._model.parameters())
        self._optimizer = torch.optim.AdamW(
            self._masters if precision == "master" else self._weights,
            lr=case.learning_rate,
            betas=(case.beta1, case.beta2),
            eps=case.epsilon,
            weight_decay=case.weight_decay,
            fused=True,
        )
        self._loss = torch.compile(self._eager_loss) if compiled else self._eager_loss
        started = time.perf_counter()
        losses = [self._step().item()]
        first_step = time.perf_counter() - started
        losses += [self._step().item() for _ in range(2)]
        self.about: dict[str, Any] = {
            "dtype": "float32" if precision == "float32" else "bfloat16",  # of matrix products
            "losses": losses,
            "first_step_seconds": round(first_step, 2),
            "version": f"torch {torch.__version__}, transformers {transformers.__version__}",
        }

    def _eager_loss(self) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "autocast"):
            logits = self._model(self._tokens, position_ids=self._positions, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), self._targets.flatten())

    def _step(self) -> torch.Tensor:
        loss = self._loss()
        loss.backward()
        moved = self._weights
        if self._precision == "master":
            moved = self._masters
            for master, weight in zip(self._masters, self._weights, strict=True):
                master.grad = weight.grad.float() if weight.grad is not None else None
                weight.grad = None
        torch.nn.utils.clip_grad_norm_(moved, self._case.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._precision == "master":
            with torch.no_grad():
                torch._foreach_copy_(self._weights, self._masters)
        return loss.detach()

    def run(self, steps: int) -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(steps):
            loss = self._step()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - started, "loss": loss.item()}


def opt_with(case: Case, weights: dict[str, Any]) -> transformers.OPTForCausalLM:
    """OPT with our weights."""
    config = DecoderConfig(
        num_layers=case.layers,
        d_model=case.d_model,
        num_heads=case.heads,
        vocab_size=case.vocabulary,
        max_length=case.length,
    )
    settings = opt_config(config, "float32")
    model = transformers.OPTForCausalLM(
        transformers.OPTConfig(**settings, use_cache=False, attn_implementation="sdpa")
    ).train()
    tensors = opt_tensors(config, flatten(weights).__getitem__)
    state = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
    model.load_state_dict(state | {TIED: state["model.decoder.embed_tokens.weight"]})
    return model
