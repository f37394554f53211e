"""Our training step, as `cm3leon train` runs it, in a process of its own (`worker.py`)."""

from __future__ import annotations

import time
from typing import Any

from case import Case, make_batch, make_weights


class OurStep:
    def __init__(self, sizes: dict[str, Any], *, dtype: str, packed: bool, device: str, attention: str, profile: str):
        case = Case(**sizes)
        import jax

        from cm3leon_jax.model.config import DecoderConfig, parameter_count, training_flops_per_token
        from cm3leon_jax.model.decoder import logical_axes
        from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
        from cm3leon_jax.runtime.devices import put_batch
        from cm3leon_jax.training.optimizer import OptimizerConfig, make_optimizer
        from cm3leon_jax.training.step import StepConfig, make_train_step, state_of, state_shardings
        from cm3leon_jax.vocabulary import Vocabulary

        if jax.default_backend() != device:
            raise ImportError(f"JAX's default backend here is {jax.default_backend()}, not {device}")
        config = DecoderConfig(
            vocab_size=case.vocabulary,
            num_layers=case.layers,
            d_model=case.d_model,
            num_heads=case.heads,
            max_length=case.length,
            compute_dtype=dtype,
            stack=case.stack,
            remat=case.remat,
            attention=attention,
        )
        optimizer_config = OptimizerConfig(
            learning_rate=case.learning_rate,
            warmup_steps=0,
            final_fraction=1.0,
            beta1=case.beta1,
            beta2=case.beta2,
            epsilon=case.epsilon,
            weight_decay=case.weight_decay,
            clip_norm=case.clip_norm,
        )
        partitioning, run_steps = Partitioning(make_mesh(MeshConfig())), 1_000_000
        optimizer = make_optimizer(optimizer_config, run_steps, partitioning)
        params = jax.device_put(make_weights(case), partitioning.tree(logical_axes(config)))
        shardings = state_shardings(config, optimizer, partitioning)
        self._state = jax.jit(lambda given: state_of(given, optimizer), out_shardings=shardings)(params)
        self._batch = put_batch(make_batch(case, packed=packed), partitioning.sharding("batch"))
        # Which ids are text and which image matters to the metrics alone.
        vocabulary = Vocabulary(text_size=case.vocabulary - 600, image_size=512, num_sentinels=16, multiple_of=1)
        step_config = StepConfig(loss_chunk=case.loss_chunk, per_device_batch_size=case.per_device_batch_size)
        self._train_step = make_train_step(config, vocabulary, optimizer_config, run_steps, partitioning, step_config)
        self._jax = jax
        started = time.perf_counter()
        losses = [self._step()]
        first_step = time.perf_counter() - started
        losses += [self._step() for _ in range(2)]
        self._profile = profile
        self.about: dict[str, Any] = {
            "dtype": config.compute_dtype,
            "losses": losses,
            "first_step_seconds": round(first_step, 2),
            "parameters": parameter_count(config),
            "flops_per_token": training_flops_per_token(config, case.length),
            "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
            "version": f"jax {jax.__version__}",
        }

    def _step(self) -> float:
        self._state, metrics = self._train_step(self._state, self._batch)
        return float(metrics["loss"])

    def run(self, steps: int) -> dict[str, Any]:
        if self._profile:
            with self._jax.profiler.trace(self._profile):
                return self._timed(steps)
        return self._timed(steps)

    def _timed(self, steps: int) -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(steps):
            self._state, metrics = self._train_step(self._state, self._batch)
        self._jax.block_until_ready((self._state, metrics))
        return {"seconds": time.perf_counter() - started, "loss": float(metrics["loss"])}
