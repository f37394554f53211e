"""Where the time went, over restarts too."""

import pytest

from cm3leon_jax.runtime.goodput import Goodput


def test_the_share_of_the_time_since_the_start_that_made_steps():
    goodput = Goodput([], running=lambda: 100.0)
    for _ in range(30):
        goodput.stepped(1.0)
    assert goodput.values()["goodput"] == pytest.approx(0.3)
    assert goodput.values()["seconds"] == 100.0


def test_what_a_killed_run_lost_counts_as_time_and_not_as_work():
    rows = [
        {"step": 10, "train/seconds": 50.0, "train/goodput": 0.8},
        {"step": 10, "eval/loss": 1.0},
        {"step": 20, "train/seconds": 100.0, "train/goodput": 0.9},
    ]
    goodput = Goodput(rows, running=lambda: 20.0)
    goodput.resumed(rows, 10)
    goodput.stepped(8.0)
    values = goodput.values()
    assert values["seconds"] == 120.0
    assert values["goodput"] == pytest.approx((0.8 * 50 + 8) / 120)


def test_steps_that_a_run_goes_back_behind_were_no_work():
    rows = [{"step": step, "train/seconds": 5.0 * step, "train/goodput": 0.8} for step in (10, 20)]
    goodput = Goodput([], running=lambda: 120.0)
    goodput.stepped(88.0)
    goodput.resumed(rows, 10)
    goodput.stepped(8.0)
    values = goodput.values()
    assert (values["seconds"], values["goodput"]) == (120.0, pytest.approx((0.8 * 50 + 8) / 120))


def test_waiting_for_input_is_a_share_of_the_time_between_two_reports(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    goodput = Goodput([], running=lambda: 1.0)
    goodput.waited(0.5)
    goodput.waited(0.5)
    clock[0] = 4.0
    assert goodput.values()["input_wait"] == 0.25
    clock[0] = 8.0
    assert goodput.values()["input_wait"] == 0.0
