"""Where a run goes on: at its last checkpoint, or, on a plateau (`plateau.py`), at an earlier one with a lower learning
rate.

To go back is to write it down, in `restarts.json`, and then to do what a run does that was killed and is started again.
So it may be killed at any time on the way.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.checkpoints import Checkpoints
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import remove, write_json
from cm3leon_jax.runtime.plateau import Plateau, restart_step
from cm3leon_jax.runtime.settings import LoopConfig

RESTARTS_FILE = "restarts.json"
_SCALE = "learning_rate_scale"  # of a state: float32 scalar, by which its step multiplies the learning rate


class Start(NamedTuple):
    """Where a run goes on."""

    step: int
    state: Any
    position: dict | None  # of the stream
    plateau: Plateau
    restart: dict[str, float]  # metrics of the restart that begins here; empty if none does


def check_restarts(config: LoopConfig, state: Any, label: str) -> None:
    """UserError where plateaus are to be looked for, and the state has no learning rate that could be lowered."""
    if config.plateau_steps and _SCALE not in state:
        raise UserError(f"LoopConfig.plateau_steps is for the decoder's training; set it to 0 for the {label}")


def to_save(step: int, position: dict, plateau: Plateau, config: LoopConfig) -> dict[str, Any]:
    """Arguments of `Checkpoints.save`: with what is known of the loss, keeping what the run may go back to."""
    if not config.plateau_steps:
        return {"position": position}
    needed = {restart_step(each, config) for each in (plateau.best_step, step)}
    return {"position": position | {"plateau": dataclasses.asdict(plateau)}, "also_keep": needed}


def resumed_config(checkpoints: Checkpoints) -> dict | None:
    """The config of the checkpoint that `resume` goes on at; None where there is none. Changes nothing."""
    if checkpoints.latest_step() is None:
        return None
    restarts = _read(checkpoints)
    going_back = restarts and not restarts[-1]["cleared"]  # later checkpoints may be half deleted
    return checkpoints.config(restarts[-1]["to_step"] if going_back else None)


def resume(checkpoints: Checkpoints, state: Any) -> Start:
    """The last checkpoint, with a lower learning rate where the run has gone back to it; `state` where there is none.

    `state` gives shapes and shardings; its memory is freed before the checkpoint is read."""
    if checkpoints.latest_step() is None:
        if hosts.is_first():
            remove(checkpoints.directory / RESTARTS_FILE)  # of a run whose checkpoints someone has deleted
        return Start(0, state, None, Plateau(0), {})
    restarts = hosts.tell(lambda: _read(checkpoints))
    restart = restarts[-1] if restarts else None
    if restart and not restart["cleared"]:
        checkpoints.drop_after(restart["to_step"])
        _write(checkpoints, [*restarts[:-1], restart | {"cleared": True}])
    step, state, position = checkpoints.restore(_freed(state))
    plateau = Plateau(**position.pop("plateau", {"best_step": step}))
    if not restart or step != restart["to_step"]:
        return Start(step, state, position, plateau, {})
    # The loss must fall anew, from where it was here.
    plateau = Plateau(best_step=step, smoothed=plateau.smoothed, restarts=restart["number"])
    metrics = {f"restart/{name}": restart[name] for name in ("number", "from_step", _SCALE)}
    return Start(step, _scaled(state, restart[_SCALE]), position, plateau, metrics)


def go_back(checkpoints: Checkpoints, state: Any, *, config: LoopConfig, plateau: Plateau, label: str) -> Start:
    """From a plateau to the checkpoint that `restart_step` names.

    Raises `UserError` where that checkpoint is not there, and when `plateau_restarts` were no help.
    """
    why = f"the training loss has not fallen since step {plateau.best_step}"
    if plateau.restarts >= config.plateau_restarts:
        raise UserError(
            f"{why}, after {plateau.restarts} restarts with a lower learning rate: look at the data and the settings,"
            " or raise LoopConfig.plateau_restarts"
        )
    to_step = restart_step(plateau.best_step, config)
    if to_step not in checkpoints.steps():
        raise UserError(
            f"{why}, and no checkpoint is from before that: lower the learning rate, or LoopConfig.checkpoint_every"
        )
    restart = {
        "number": plateau.restarts + 1,
        "from_step": plateau.reached,
        "to_step": to_step,
        _SCALE: float(state[_SCALE]) * config.plateau_factor,
        "cleared": False,  # whether the checkpoints behind `to_step` are gone
    }
    if hosts.is_first():
        _write(checkpoints, [*_read(checkpoints), restart])
        change = f"from step {plateau.reached} back to step {to_step}, learning rate times {restart[_SCALE]:.3g}"
        print(f"{label}: {why}; {change}", flush=True)
    return resume(checkpoints, state)


def _freed(state: Any) -> Any:
    """The shapes and shardings of a state whose arrays are deleted."""
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    jax.tree.map(lambda x: x.delete(), state)
    return abstract


def _scaled(state: dict, scale: float) -> dict:
    fill = jax.jit(lambda old: jnp.full_like(old, scale), out_shardings=state[_SCALE].sharding)
    return state | {_SCALE: fill(state[_SCALE])}


def _read(checkpoints: Checkpoints) -> list[dict]:
    path = checkpoints.directory / RESTARTS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def _write(checkpoints: Checkpoints, restarts: list[dict]) -> None:
    if hosts.is_first():
        write_json(checkpoints.directory / RESTARTS_FILE, restarts)
