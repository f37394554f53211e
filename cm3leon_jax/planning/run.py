"""A training run as the planner sees it: all that decides the step's program."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import AXIS_NAMES, AxisRules, MeshAxes, MeshConfig, axes_of
from cm3leon_jax.planning.chips import Slice
from cm3leon_jax.training.optimizer import OptimizerConfig
from cm3leon_jax.training.step import StepConfig, accumulated_parts


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """All that decides the training step's program."""

    model: DecoderConfig
    mesh: MeshConfig
    rules: AxisRules
    optimizer: OptimizerConfig
    step: StepConfig
    batch_size: int  # rows of the global batch
    length: int  # tokens a row
    compiler_options: tuple[tuple[str, str], ...] = ()
    retrieved_max: int | None = None  # as in `make_train_step`

    def shards(self, slice_: Slice, axes: MeshAxes) -> int:
        """Into how many pieces something is cut that is split over these mesh axes."""
        sizes = dict(zip(AXIS_NAMES, self.mesh.sizes(slice_.chips), strict=True))
        return math.prod(sizes[axis] for axis in axes_of(axes))

    def batch_shards(self, slice_: Slice) -> int:
        return self.shards(slice_, self.rules.batch)

    def rows_at_once(self, slice_: Slice) -> int:
        """Rows of the batch that a chip really works through at once. UserError: the rows do not divide."""
        shards = self.batch_shards(slice_)
        return self.batch_size // shards // accumulated_parts(self.batch_size, shards, self.step)

    def changes(self, base: PlannedRun) -> list[str]:
        """The gin bindings that make this run of `base`."""
        pairs: list[tuple[Any, Any]] = [(self.model, base.model), (self.step, base.step)]
        pairs += [(self.mesh, base.mesh), (self.rules, base.rules)]
        return [
            f"{type(part).__name__}.{field.name} = {getattr(part, field.name)!r}"
            for part, old in pairs
            for field in dataclasses.fields(part)
            if getattr(part, field.name) != getattr(old, field.name)
        ]
