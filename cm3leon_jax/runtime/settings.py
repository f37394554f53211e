"""Settings of the training loop; apart from it, so that reading them imports nothing heavy."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long, and how often what is done."""

    steps: int
    log_every: int = 20  # steps between two lines of metrics
    evaluate_every: int = 0  # steps; 0: at the end alone
    checkpoint_every: int = 500  # steps; the last step is always saved
    keep_checkpoints: int = 2
