"""AdamW with CM3Leon's schedule (§3.2, table 2; β, ε and decay as OPT)."""

from __future__ import annotations

import dataclasses

import optax

from cm3leon_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Defaults are CM3Leon's 350M model's. Decay falls on every parameter, embeddings and positions included (OPT)."""

    learning_rate: float = 6e-4  # at the peak
    warmup_steps: int = 1500  # linear, from 0
    final_fraction: float = 0.1  # of the peak, reached linearly at the last step
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0  # of the gradient's global norm

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.warmup_steps < 0 or self.clip_norm <= 0:
            raise UserError(
                f"the optimizer needs a positive learning rate and clip norm, and no negative warm-up: {self}"
            )


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate of the update after n finished ones, for a run of `steps`."""
    warmup = min(config.warmup_steps, steps)
    up = optax.linear_schedule(config.learning_rate / max(warmup, 1), config.learning_rate, max(warmup - 1, 1))
    down = optax.linear_schedule(
        config.learning_rate, config.learning_rate * config.final_fraction, max(steps - warmup, 1)
    )
    return optax.join_schedules([up, down], [warmup])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW. Clipping is the step's (`step.py`), which needs the norm anyway."""
    return optax.adamw(
        learning_rate_schedule(config, steps),
        b1=config.beta1,
        b2=config.beta2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )
