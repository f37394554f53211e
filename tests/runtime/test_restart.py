"""A run on a plateau goes back, and goes on with a lower learning rate: the same whatever happens on the way."""

import json
import os
import shutil
import signal

import jax.numpy as jnp
import numpy as np
import pytest
import toy_process
from toy_process import kill, preempt, seen, wait_for

from cm3leon_jax.runtime.batches import batches_by_step
from cm3leon_jax.runtime.checkpoints import Checkpoints
from cm3leon_jax.runtime.errors import EXIT_START_AGAIN, StartAgain, UserError
from cm3leon_jax.runtime.loop import LoopConfig, TrainingLoop
from cm3leon_jax.runtime.metrics import read_metrics

LOOP = LoopConfig(steps=60, log_every=5, checkpoint_every=10, keep_checkpoints=1, plateau_steps=10)


def falls_to_25(step, scale):
    """A loss that falls behind step 25 only with a lower learning rate."""
    return 10 - 0.1 * (step if step <= 25 or scale < 1 else 20)


def train(config, directory, loss_of, done):
    """A run with given losses; (step, batch, learning rate's scale) of each step goes to `done`."""

    def train_step(state, batch):
        step, scale = int(state["step"]) + 1, float(state["learning_rate_scale"])
        done.append((step, batch, round(scale, 4)))
        loss = loss_of(step, scale)
        metrics = {"loss": jnp.float32(loss), "finite": jnp.float32(np.isfinite(loss))}
        return state | {"step": jnp.int32(step)}, metrics

    return loop_of(config, directory, train_step).run({"step": jnp.int32(0), "learning_rate_scale": jnp.float32(1)})


def loop_of(config, directory, train_step):
    return TrainingLoop(
        config=config,
        train_step=train_step,
        make_batches=batches_by_step(lambda step: step + 1),
        directory=directory,
        label="toy",
        saved_config={},
    )


def steps(first, last, scale):
    return [(step, step, scale) for step in range(first, last + 1)]


# Best at step 25, ten steps without a better one, back to the checkpoint of step 20.
EXPECTED = [*steps(1, 35, 1.0), *steps(21, 60, 0.8)]


def test_a_plateau_sends_the_run_back_with_a_lower_learning_rate(tmp_path, capsys):
    done = []
    state = train(LOOP, tmp_path, falls_to_25, done)
    assert done == EXPECTED
    assert int(state["step"]) == 60 and float(state["learning_rate_scale"]) == pytest.approx(0.8)
    assert state["learning_rate_scale"].dtype == jnp.float32
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    assert printed == [
        "toy: the training loss has not fallen since step 25; from step 35 back to step 20, learning rate times 0.8"
    ]
    # What is logged is one run; the steps that were given up are not in it.
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 21, *range(25, 61, 5)]
    expected = {"step": 21, "restart/number": 1, "restart/from_step": 35, "restart/learning_rate_scale": 0.8}
    assert rows[4] == pytest.approx(expected)
    assert rows[-1]["train/loss"] == pytest.approx(4.0)
    assert all(0 <= row["train/goodput"] <= 1 for row in rows if "train/goodput" in row)


def test_where_the_loss_falls_no_one_goes_back_and_nothing_is_kept_that_is_not_needed(tmp_path):
    done = []
    train(LOOP, tmp_path, lambda step, scale: 1 / step, done)
    assert done == steps(1, 60, 1.0)
    assert Checkpoints(tmp_path).steps() == [60] and not (tmp_path / "restarts.json").exists()


def bumpy(step, scale):
    """A loss that is lowest at 18, and then at 25 once more; with a lower learning rate it falls, but not as low."""
    if scale < 1:
        return 9 - 0.01 * (step - 20)
    return {25: 8.0}.get(step, 10 - 0.1 * step if step <= 18 else 9)


def test_behind_a_restart_the_loss_must_fall_from_where_it_was_at_the_checkpoint(tmp_path):
    done = []
    train(LOOP, tmp_path, bumpy, done)
    assert done == EXPECTED


def test_a_run_that_saved_its_state_in_between_goes_back_to_the_same_checkpoint(tmp_path):
    """Step 23 is not one that every run saves, and at that time the best loss lies before the checkpoint of step 20."""

    def preempted_at_23(step, scale):
        if step == 23:
            os.kill(os.getpid(), signal.SIGTERM)
        return bumpy(step, scale)

    done = []
    with pytest.raises(StartAgain, match="at step 23"):
        train(LOOP, tmp_path, preempted_at_23, done)
    train(LOOP, tmp_path, bumpy, done)
    assert done == EXPECTED


def test_too_many_skipped_steps_are_a_plateau(tmp_path):
    done = []
    loop = LoopConfig(steps=40, checkpoint_every=10, plateau_steps=1000, max_skipped_in_a_row=3)
    losses = lambda step, scale: 1 / step if step <= 25 or scale < 1 else np.nan  # noqa: E731
    train(loop, tmp_path, losses, done)
    assert done == [*steps(1, 28, 1.0), *steps(21, 40, 0.8)]


def test_a_run_that_goes_back_in_vain_stops(tmp_path):
    done = []
    loop = LoopConfig(steps=99, checkpoint_every=10, plateau_steps=10, plateau_factor=0.5, plateau_restarts=2)
    with pytest.raises(UserError, match="not fallen since step 15, after 2 restarts with a lower learning rate"):
        train(loop, tmp_path, lambda step, _: max(1 / step, 1 / 15), done)
    # Behind a restart the loss is to fall from where it was at the checkpoint. It does, up to step 15.
    assert done == [*steps(1, 25, 1.0), *steps(11, 25, 0.5), *steps(11, 25, 0.25)]


def test_a_plateau_before_the_first_checkpoint_stops_the_run(tmp_path):
    with pytest.raises(UserError, match="not fallen since step 3, and no checkpoint is from before that"):
        train(LOOP, tmp_path, lambda step, _: abs(step - 3), [])


def test_a_model_without_a_learning_rate_to_lower_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"plateau_steps is for the decoder's training; set it to 0 for the toy"):
        loop_of(LOOP, tmp_path, train_step=None).run({"step": jnp.int32(0)})


class Killed(BaseException):
    pass


def test_a_run_killed_while_it_goes_back_still_does(tmp_path, monkeypatch):
    """Killed with a part of the checkpoint of step 30 deleted, which is then the last one."""

    def half_deleted(self, step):
        assert step == 20 and self.steps() == [20, 30]
        (part,) = (tmp_path / "30").glob("state")
        shutil.rmtree(part)
        raise Killed

    done = []
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "drop_after", half_deleted)
        train(LOOP, tmp_path, falls_to_25, done)
    assert done == EXPECTED[:35]
    with pytest.raises(Killed):
        train(LOOP, tmp_path, killed_at(24), done)
    assert done == [*EXPECTED[:35], *steps(21, 24, 0.8)]  # and before anything of it was saved
    train(LOOP, tmp_path, falls_to_25, done)
    assert done == [*EXPECTED[:35], *steps(21, 24, 0.8), *steps(21, 60, 0.8)]
    assert [row["step"] for row in read_metrics(tmp_path)] == [5, 10, 15, 20, 21, *range(25, 61, 5)]


def killed_at(last):
    def loss_of(step, scale):
        if step == last:
            raise Killed
        return falls_to_25(step, scale)

    return loss_of


def test_a_folder_whose_checkpoints_were_deleted_begins_anew(tmp_path):
    (tmp_path / "restarts.json").write_text(
        '[{"number": 1, "to_step": 10, "learning_rate_scale": 0.5, "cleared": true}]'
    )
    done = []
    loop = LoopConfig(steps=12, checkpoint_every=10)
    with pytest.raises(Killed):
        train(loop, tmp_path, killed_at(11), done)
    train(loop, tmp_path, falls_to_25, done)
    assert done == [*steps(1, 11, 1.0), *steps(11, 12, 1.0)]


TOY = {"steps": 40, "plateau_steps": 8}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    process = toy_process.start(directory, **TOY)
    assert process.wait(300) == 0, process.stderr.read()
    return seen(directory)


def test_killed_and_preempted_on_its_way_a_run_goes_back_as_if_nothing_had_happened(tmp_path, undisturbed):
    path = [(row["scale"], row["step"]) for row in undisturbed]
    scales = list(dict.fromkeys(scale for scale, _ in path))
    assert len(scales) == 4 and path[-1] == (scales[-1], 40)  # three restarts

    def until(place):
        """Starts, and waits until this step is done."""
        before = len(seen(tmp_path))
        process = toy_process.start(tmp_path, hold=place, **TOY)
        wait_for(lambda: place in [(row["scale"], row["step"]) for row in seen(tmp_path)[before:]], process)
        return process

    kill(until((1.0, 26)))  # on the first plateau, behind the checkpoint of step 20
    process = until((1.0, 27))
    # Saves its state there, where no one goes back to.
    assert preempt(process, tmp_path) == EXIT_START_AGAIN
    kill(until((scales[1], 23)))  # gone back, and nothing saved behind that
    kill(until((scales[1], 31)))
    process = until((scales[3], 25))
    assert preempt(process, tmp_path) == EXIT_START_AGAIN
    process = toy_process.start(tmp_path, **TOY)
    assert process.wait(300) == 0, process.stderr.read()

    expected = {(row["scale"], row["step"]): row for row in undisturbed}
    rows = seen(tmp_path)
    assert all(row == expected[row["scale"], row["step"]] for row in rows)
    assert set(expected) == {(row["scale"], row["step"]) for row in rows}
    assert rows[-1] == undisturbed[-1]
    restarts = json.loads((tmp_path / "restarts.json").read_text())
    assert [restart["learning_rate_scale"] for restart in restarts] == pytest.approx(scales[1:])
