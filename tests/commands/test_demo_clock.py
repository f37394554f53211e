import pytest

from cm3leon_jax.commands.demo_clock import Clock, DemoConfig

BUDGET = DemoConfig(step=(0.2, 0.4), scenes=(20, 30), prepare=(60, 70), train=(400, 800), evaluate=(80, 100))


def test_stages_take_their_budget_times_what_a_step_takes():
    clock = Clock(BUDGET, "float32", 0.8)
    assert clock.seconds("train", {}) == 1600
    assert clock.seconds_left(["train", "evaluate"], {}) == 1800
    assert Clock(BUDGET, "bfloat16", 0.1).seconds("prepare", {}) == 30
    assert clock.seconds("inspect", {}) == 0


def test_what_stages_took_corrects_the_others_but_not_training():
    clock = Clock(BUDGET, "bfloat16", 0.2)
    finished = {"scenes": 30.0, "prepare": 90.0}
    assert clock.seconds("evaluate", finished) == pytest.approx(80 * 120 / 80)
    assert clock.seconds("train", finished) == 400
    assert clock.seconds_left(["scenes", "train"], finished) == 400
    assert clock.seconds("evaluate", finished | {"train": 9000.0}) == pytest.approx(120)
