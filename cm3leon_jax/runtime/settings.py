"""Settings of the training loop; apart from it, so that reading them imports nothing heavy."""

from __future__ import annotations

import dataclasses

from cm3leon_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long, how often what is done, and when to give up."""

    steps: int
    log_every: int = 20  # steps between two lines of metrics
    evaluate_every: int = 0  # steps; 0: at the end alone
    checkpoint_every: int = 500  # steps; the last step is always saved
    keep_checkpoints: int = 2  # the newest; with plateau_steps up to two more, to go back to
    # The watchdog ends a run that hangs (exit status 42: start again). A step may take so many times the median of the
    # steps before it, and no less than the floor; compilation, evaluations and saves have an allowance of their own.
    watchdog_multiple: float = 20.0  # 0: no watchdog
    watchdog_floor_seconds: float = 300.0
    watchdog_long_seconds: float = 3600.0
    save_timeout_seconds: int = 1200  # a save that is not done by then has failed, and stops the run
    max_skipped_in_a_row: int = 10  # steps without a finite loss and gradient, whose updates are skipped; 0: no limit
    # Where the training loss has not fallen for so many steps, or `max_skipped_in_a_row` were skipped: back to the last
    # checkpoint from before, with a lower learning rate. For the decoder; metrics below restart/.
    plateau_steps: int = 0  # 0: off
    plateau_factor: float = 0.8  # of the learning rate, at each such restart
    plateau_restarts: int = 5  # so many at most; the next plateau stops the run
    profile_steps: str = ""  # such as "10:15": a jax.profiler trace of these steps, below profile/
    wandb_project: str = ""  # metrics also go to this project of Weights & Biases

    def __post_init__(self) -> None:
        if self.plateau_steps < 0 or self.plateau_restarts < 0 or not 0 < self.plateau_factor < 1:
            raise UserError(
                "LoopConfig.plateau_steps and plateau_restarts must not be negative, plateau_factor must lie between 0"
                f" and 1; they are {self.plateau_steps}, {self.plateau_restarts} and {self.plateau_factor}"
            )
