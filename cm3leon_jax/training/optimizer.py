"""AdamW with CM3Leon's schedule (§3.2, table 2; β, ε and decay as OPT); Muon for the layers' matrices as a setting."""

from __future__ import annotations

import dataclasses

import jax
import optax

from cm3leon_jax.model.partitioning import UNPARTITIONED, Partitioning
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.training.muon import scale_by_muon


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
    # "muon": the layers' matrices move by orthogonalised momentum; embeddings stay with AdamW, and decay is as before.
    matrices: str = "adamw"
    muon_learning_rate: float = 0.02  # at the peak; warmed up and decayed like the other
    muon_momentum: float = 0.95

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.warmup_steps < 0 or self.clip_norm <= 0:
            raise UserError(
                f"the optimizer needs a positive learning rate and clip norm, and no negative warm-up: {self}"
            )
        if self.matrices not in ("adamw", "muon"):
            raise UserError(f"OptimizerConfig.matrices is {self.matrices!r}; choose 'adamw' or 'muon'")


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate of the update after n finished ones, for a run of `steps`."""
    warmup = min(config.warmup_steps, steps)
    up = optax.linear_schedule(config.learning_rate / max(warmup, 1), config.learning_rate, max(warmup - 1, 1))
    down = optax.linear_schedule(
        config.learning_rate, config.learning_rate * config.final_fraction, max(steps - warmup, 1)
    )
    return optax.join_schedules([up, down], [warmup])


def make_optimizer(
    config: OptimizerConfig, steps: int, partitioning: Partitioning = UNPARTITIONED
) -> optax.GradientTransformation:
    """The optimizer of a run of `steps`. Clipping is the step's (`step.py`), which needs the norm anyway."""
    schedule = learning_rate_schedule(config, steps)
    adamw = optax.adamw(
        schedule, b1=config.beta1, b2=config.beta2, eps=config.epsilon, weight_decay=config.weight_decay
    )
    if config.matrices == "adamw":
        return adamw
    muon = optax.chain(
        scale_by_muon(config.muon_momentum, partitioning),
        optax.scale(config.muon_learning_rate / config.learning_rate),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(schedule),
    )
    kinds = lambda params: jax.tree_util.tree_map_with_path(_kind, params)  # noqa: E731
    return optax.multi_transform({"adamw": adamw, "muon": muon}, kinds)


def _kind(path: tuple, parameter: object) -> str:
    """Which part of the optimizer a parameter is for, by the branch of the tree that it lies on (`model.decoder`)."""
    del parameter
    return "muon" if path[0].key == "layers" else "adamw"
