"""When a plateau is reached, and where the run goes back to: pure functions of losses."""

import dataclasses
import json
import math

import numpy as np
import pytest

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.plateau import Plateau, restart_step
from cm3leon_jax.runtime.settings import LoopConfig


def config_of(plateau_steps, **settings):
    return LoopConfig(steps=10_000, checkpoint_every=100, plateau_steps=plateau_steps, **settings)


def follow(plateau, losses, config, start=1):
    for step, loss in enumerate(losses, start=start):
        plateau.add(step, loss, config)
    return plateau


def test_a_falling_loss_is_no_plateau():
    plateau = follow(Plateau(0), [1 / step for step in range(1, 500)], config_of(10))
    assert not plateau.reached and plateau.best_step == 499


@pytest.mark.parametrize("after", [1.0, 3.0], ids=["flat", "rising"])
def test_the_plateau_begins_behind_the_best_loss_and_is_reached_after_so_many_steps(after):
    falling = [100 - step for step in range(99)]
    plateau = follow(Plateau(0), [*falling, *[2.0 + after] * 9], config_of(10))
    assert not plateau.reached and plateau.best_step == 99
    plateau = follow(plateau, [2.0 + after], config_of(10), start=109)
    assert plateau.reached == 109
    # Steps that were under way change nothing more.
    assert follow(dataclasses.replace(plateau), [0.0], config_of(10), start=110) == plateau


def test_a_single_low_loss_is_not_taken_for_a_fall():
    config, noise = config_of(100), np.random.default_rng(0).normal(size=1000)
    lucky = [5 + 0.01 * value for value in noise]
    lucky[60] = 3.0
    # Smoothed over ten steps it falls by a tenth of that; not smoothed, nothing would ever be lower.
    smoothed = follow(Plateau(0), lucky[:61], config)
    assert smoothed.best == pytest.approx(4.8, abs=0.02)
    assert follow(smoothed, [2.9 + 1.9 * math.exp(-step / 20) for step in range(80)], config, start=62).best_step > 130


def test_steps_that_are_skipped_are_a_plateau_at_once_when_they_are_too_many():
    config = config_of(1000, max_skipped_in_a_row=3)
    plateau = follow(Plateau(0), [3.0, math.nan, math.nan, 2.0, math.inf, math.nan], config)
    assert not plateau.reached and (plateau.best, plateau.best_step) == (2.99, 4)
    assert follow(plateau, [math.nan], config, start=7).reached == 7
    unlimited = config_of(1000, max_skipped_in_a_row=0)
    assert follow(Plateau(0), [math.nan] * 1001, unlimited).reached == 1000


def test_what_is_saved_decides_the_same():
    config, rng = config_of(30), np.random.default_rng(1)
    losses = [float(np.float32(3 + rng.normal())) for _ in range(200)]
    whole = follow(Plateau(0), losses, config)
    assert whole.reached
    for cut in range(whole.reached):
        saved = json.loads(json.dumps(dataclasses.asdict(follow(Plateau(0), losses[:cut], config))))
        assert follow(Plateau(**saved), losses[cut:], config, start=cut + 1) == whole


def test_the_checkpoint_to_go_back_to_is_the_newest_not_behind_the_best_loss():
    config = config_of(10)
    assert [restart_step(best, config) for best in (99, 100, 101, 199, 200)] == [0, 100, 100, 100, 200]


@pytest.mark.parametrize(
    "wrong", [{"plateau_steps": -1}, {"plateau_factor": 1.0}, {"plateau_factor": 0.0}, {"plateau_restarts": -1}]
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(UserError, match="plateau_factor"):
        LoopConfig(steps=1, **wrong)
