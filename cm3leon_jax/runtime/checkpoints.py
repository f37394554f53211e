"""Checkpoints of a training run: one step holds the state, the stream's position and the config together.

A thin module around Orbax's `CheckpointManager` (its newer training API has no preemption support yet). Saves are
asynchronous; a save that failed raises at the next call instead of going unnoticed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, as_path, is_remote


class Checkpoints:
    """The checkpoints below one folder, which may be in an object store. Use as a context manager, so that the last
    save is waited for. All processes make the same calls. A save that takes longer than `timeout` seconds has failed.
    The last `keep` of them are kept, and those that were asked for at the last save.
    """

    def __init__(self, directory: Path, *, keep: int = 2, timeout: int = 1200):
        self.directory = as_path(directory) if is_remote(directory) else as_path(directory).absolute()
        self._also_kept = _Named()
        latest = checkpoint_managers.LatestN(n=keep)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy([latest, self._also_kept]),
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(timeout_secs=timeout),
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.wait_until_finished()
        self._manager.check_for_errors()
        self._manager.close()

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Those that are there; a save that is under way is waited for."""
        self._manager.wait_until_finished()
        self._manager.check_for_errors()
        return sorted(self._manager.all_steps())

    def drop_after(self, step: int) -> None:
        """Deletes all checkpoints behind a step, also those of which a killed run had deleted a part."""
        for later in reversed(self.steps()):
            if later > step:
                self._manager.delete(later)

    def save(self, step: int, state: Any, *, position: dict, config: dict, also_keep: Collection[int] = ()) -> None:
        """Starts saving `state` (a pytree of arrays) with the stream's `position` and the run's `config` (JSON)."""
        self._manager.check_for_errors()
        self._also_kept.steps = also_keep
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                position=ocp.args.JsonSave(position),
                config=ocp.args.JsonSave(config),
            ),
        )

    def restore(self, target: Any, step: int | None = None) -> tuple[int, Any, dict]:
        """-> (step, state, position). `target` is a pytree of arrays or `ShapeDtypeStruct`s that gives shapes and
        shardings, those of another mesh than the saving one included."""
        step = self._step_or_latest(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), position=ocp.args.JsonRestore()),
            )
        except ValueError as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"the checkpoint in {self.directory} is of another model: {reason}") from error
        return step, restored["state"], restored["position"]

    def config(self, step: int | None = None) -> dict:
        """The config saved with a step (the latest unless told)."""
        restored = self._manager.restore(
            self._step_or_latest(step), args=ocp.args.Composite(config=ocp.args.JsonRestore())
        )
        return restored["config"]

    def _step_or_latest(self, step: int | None) -> int:
        step = self.latest_step() if step is None else step
        if step is None:
            raise UserError(f"no checkpoint in {self.directory}; train first with `cm3leon train`")
        return step


class _Named(checkpoint_managers.PreservationPolicy):
    """Keeps the checkpoints of `steps`."""

    steps: Collection[int] = ()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        del context
        return [checkpoint.step in self.steps for checkpoint in checkpoints]
