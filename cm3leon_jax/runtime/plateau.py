"""When the training loss has stopped falling, and to which checkpoint the run then goes back.

OPT, whose recipe CM3Leon takes over, was trained so by hand: where the loss diverged, on from an earlier checkpoint
with a lower learning rate (Zhang et al. 2022, §2.5). What is done about a plateau is in `restart.py`.
"""

from __future__ import annotations

import dataclasses
import math

from cm3leon_jax.runtime.settings import LoopConfig


@dataclasses.dataclass
class Plateau:
    """Follows the training loss, smoothed: its mean with weights that fall off over a tenth of `plateau_steps`.

    The fields are all that the decision depends on. They are saved with each checkpoint, so that a run that was killed
    decides as it would have.
    """

    best_step: int  # of the lowest smoothed loss; before there is one, the step that it is looked for from
    best: float | None = None  # that loss
    smoothed: float | None = None
    bad_steps: int = 0  # in a row, without a finite loss and gradient
    restarts: int = 0  # so far
    reached: int = 0  # the step at which the plateau was long enough; 0: it is not

    def add(self, step: int, loss: float, config: LoopConfig) -> None:
        """The next step had this loss; NaN where it was skipped.

        A plateau is reached when the smoothed loss has not been lower than its best for `plateau_steps`: one that rises
        does not fall either. Where `max_skipped_in_a_row` steps were skipped, that is not waited for. Steps behind it
        are those that were under way already; they change nothing.
        """
        if self.reached:
            return
        if math.isfinite(loss):
            weight = min(1.0, 10 / config.plateau_steps)
            self.smoothed = loss if self.smoothed is None else self.smoothed + weight * (loss - self.smoothed)
            self.bad_steps = 0
            if self.best is None or self.smoothed < self.best:
                self.best, self.best_step = self.smoothed, step
        else:
            self.bad_steps += 1
        diverged = 0 < config.max_skipped_in_a_row <= self.bad_steps
        if diverged or step - self.best_step >= config.plateau_steps:
            self.reached = step


def restart_step(best_step: int, config: LoopConfig) -> int:
    """The checkpoint to go back to: the newest at or before the step of the best loss; 0 if none is so old.

    So what was learned up to there is kept, and what spoiled it is not, as far as smoothing can tell. Only checkpoints
    that every run makes count, those of each `checkpoint_every` steps: a run that was stopped in between, and saved its
    state there, goes back to the same one.
    """
    return best_step // config.checkpoint_every * config.checkpoint_every
