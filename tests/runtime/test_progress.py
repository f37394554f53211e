import time

import pytest

from cm3leon_jax.runtime.progress import WholeRun, minutes, progress


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (1170, "20 min")])
def test_minutes(seconds, shown):
    assert minutes(seconds) == shown


def test_a_bar_shows_what_the_whole_run_has_left(capsys, monkeypatch):
    whole = WholeRun("demo", time.time() - 50, 110, 600)
    for name, value in whole.variable().items():
        monkeypatch.setenv(name, value)
    with progress(label="some work", total=4, unit="steps") as bar:
        bar.update(1)
        bar.refresh()
    assert "demo: 11 min left" in capsys.readouterr().err
    # More than was expected of this command: what later ones take is still left.
    assert WholeRun("demo", time.time() - 500, 110, 600).seconds_left() == 600


def test_a_bar_of_all_the_work_knows_better(capsys, monkeypatch):
    for name, value in WholeRun("demo", time.time(), 3000, 600).variable().items():
        monkeypatch.setenv(name, value)
    bar = progress(label="training", total=100, unit="steps", all_work=True)
    assert "demo: 60 min left" in str(bar)  # nothing is done yet
    monkeypatch.setattr(bar, "_time", lambda: bar.start_t + 100.0)  # 50 steps took 100 s
    bar.n = 50
    assert "demo: 12 min left" in str(bar)
    bar.close()


def test_without_a_whole_run_a_bar_is_a_bar(capsys):
    with progress(label="some work", total=1, unit="steps") as bar:
        bar.update(1)
    assert "left" not in capsys.readouterr().err
