"""What takes far too long is ended, with every stack in a file; what is only slow is not."""

import threading

import pytest

from cm3leon_jax.runtime import watchdog as watchdog_module
from cm3leon_jax.runtime.errors import EXIT_START_AGAIN
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.runtime.watchdog import Watchdog

CONFIG = LoopConfig(steps=1, watchdog_multiple=20.0, watchdog_floor_seconds=0.5, watchdog_long_seconds=3600.0)


@pytest.fixture
def watched(tmp_path):
    """(watchdog, what it ended the run with, an event that it did)."""
    ended, event = [], threading.Event()

    def end(status, line):
        ended.append((status, line))
        event.set()

    with Watchdog(CONFIG, tmp_path, end=end) as watchdog:
        yield watchdog, ended, event


def test_a_step_may_take_a_multiple_of_the_median_and_no_less_than_the_floor(watched):
    watchdog, _, _ = watched
    assert watchdog.step_allowance() == CONFIG.watchdog_long_seconds  # nothing is known yet
    for seconds in (0.01, 0.01, 9.0):
        watchdog.took(seconds)
    assert watchdog.step_allowance() == CONFIG.watchdog_floor_seconds
    for seconds in (2.0, 2.0, 2.0, 2.0):
        watchdog.took(seconds)
    assert watchdog.step_allowance() == 40.0


def test_what_takes_longer_is_ended_with_its_stacks(watched, tmp_path, capfd):
    watchdog, ended, event = watched
    watchdog.took(0.01)
    watchdog.expect("step 7")
    assert event.wait(60)
    ((status, line),) = ended
    assert status == EXIT_START_AGAIN and "step 7 took more than 0 s" in line.replace("0.5", "0")
    for stacks in ((tmp_path / "stacks_0.txt").read_text(), capfd.readouterr().err):
        assert "test_what_takes_longer_is_ended_with_its_stacks" in stacks


@pytest.mark.parametrize("hangs", [False, True])
def test_storage_that_fails_or_hangs_too_does_not_keep_it(watched, monkeypatch, hangs):
    blocked = threading.Event()

    def write(_):
        if hangs:
            blocked.wait()
        raise RuntimeError("unavailable")

    monkeypatch.setattr(watchdog_module, "written_aside", write)
    monkeypatch.setattr(watchdog_module, "_WRITING_SECONDS", 0.2)
    watchdog, ended, event = watched
    watchdog.took(0.01)
    watchdog.expect("step 7")
    assert event.wait(60) and len(ended) == 1
    blocked.set()


def test_what_is_long_by_nature_and_what_is_in_time_goes_on(watched, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    watchdog, ended, event = watched
    watchdog.took(0.01)
    for _ in range(4):
        watchdog.expect("step")
        clock[0] += 0.4  # four together are longer than the floor
        assert not event.wait(0.25)  # the watchdog looks meanwhile
    watchdog.expect("compilation", long=True)
    clock[0] += 3500
    assert not event.wait(0.5) and not ended
    clock[0] += 200
    assert event.wait(60) and "compilation" in ended[0][1]


def test_it_can_be_switched_off(tmp_path):
    ended = []
    off = LoopConfig(steps=1, watchdog_multiple=0.0, watchdog_floor_seconds=0.0)
    with Watchdog(off, tmp_path, end=lambda *arguments: ended.append(arguments)) as watchdog:
        watchdog.took(0.0)
        watchdog.expect("step")
        assert not threading.Event().wait(0.6)
    assert not ended
