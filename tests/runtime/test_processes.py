"""Several processes are one run: they train what one would, end together, and never hang."""

import json
import pathlib
import signal

import jax
import numpy as np
import pytest
from processes import Run, logged

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import abstract_params
from cm3leon_jax.model.folder import load_decoder, save_decoder
from cm3leon_jax.runtime.checkpoints import Checkpoints
from cm3leon_jax.runtime.errors import EXIT_START_AGAIN, EXIT_USER_ERROR
from cm3leon_jax.vocabulary import Vocabulary

PROGRAM = pathlib.Path(__file__).with_name("tiny_run.py")
STEPS = 8
UNSET_HEARTBEAT = 100  # seconds: how long a silent process would be waited for, did `Run` not say 10


def lines(errors):
    return [line for line in errors.splitlines() if line.startswith("cm3leon: ")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process, which the others are compared with."""
    directory = tmp_path_factory.mktemp("alone")
    with Run(PROGRAM, 1, mode="train", directory=str(directory), steps=STEPS) as run:
        (ended,) = run.wait()
    assert ended.status == 0, ended.errors
    return directory


def test_two_processes_are_preempted_and_four_go_on_as_one_would(alone, tmp_path):
    directory = str(tmp_path)
    with Run(PROGRAM, 2, mode="train", directory=directory, steps=STEPS, pause=0.4, hold_at=4) as run:
        run.wait_for_steps(directory, 2)
        run.processes[1].send_signal(signal.SIGTERM)
        (tmp_path / "go_on").touch()
        ended = run.wait()
    assert [each.status for each in ended] == [EXIT_START_AGAIN] * 2, ended
    assert len(lines(ended[0].errors)) == 1 and "state saved" in lines(ended[0].errors)[0]
    assert not lines(ended[1].errors) and "steps/s" not in ended[1].errors  # one of them speaks
    preempted_at = logged(directory)[-1]["step"]
    assert 2 <= preempted_at < STEPS and Checkpoints(tmp_path / "training").latest_step() == preempted_at

    with Run(PROGRAM, 4, mode="train", directory=directory, steps=STEPS) as run:
        assert [each.status for each in run.wait()] == [0] * 4
    rows, expected = logged(directory), logged(alone)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for row, same in zip(rows, expected, strict=True):
        assert row["train/tokens"] == same["train/tokens"]
        assert row["train/loss"] == pytest.approx(same["train/loss"], rel=1e-5)
        assert row["train/grad_norm"] == pytest.approx(same["train/grad_norm"], rel=1e-4)
    (_, _, found), (_, _, one) = load_decoder(tmp_path / "model"), load_decoder(alone / "model")
    np.testing.assert_allclose(found["embedding"]["tokens"], one["embedding"]["tokens"], atol=1e-4)
    assert json.loads((tmp_path / "evaluation.json").read_text())["steps"] == STEPS

    # What four have written, one reads, and has nothing left to do.
    with Run(PROGRAM, 1, mode="train", directory=directory, steps=STEPS) as run:
        assert run.wait()[0].status == 0
    assert logged(directory) == rows


@pytest.mark.parametrize(("victim", "by"), [(1, signal.SIGKILL), (0, signal.SIGSTOP)])
def test_a_process_that_dies_or_freezes_ends_the_others(tmp_path, victim, by):
    with Run(PROGRAM, 2, mode="train", directory=str(tmp_path), steps=10_000, pause=0.1) as run:
        run.wait_for_steps(tmp_path, 2)
        run.processes[victim].send_signal(by)
        (ended,) = run.wait(1 - victim, seconds=0.9 * UNSET_HEARTBEAT)
    assert ended.status == EXIT_START_AGAIN, ended.errors
    assert lines(ended.errors)


def test_a_process_that_hangs_is_found_by_the_watchdog(tmp_path):
    with Run(PROGRAM, 2, mode="train", directory=str(tmp_path), steps=10_000, hang_at=3, watchdog=3.0) as run:
        ended = run.wait()
    assert [each.status for each in ended] == [EXIT_START_AGAIN] * 2, ended
    assert "step 3 took more than" in lines(ended[0].errors)[-1]
    stacks = list((tmp_path / "training").glob("stacks_*.txt"))
    assert stacks and "runtime/loop.py" in stacks[0].read_text()


def test_what_is_wrong_in_one_process_ends_all_alike_and_is_said_once(tmp_path):
    modes = {
        "differ": {"directory": str(tmp_path)},
        "wrong_input": {"by": 0},
        "wrong_input_elsewhere": {"by": 1},
        "train": {"directory": str(tmp_path), "steps": 1, "tensor": 2},
        "bug": {"by": 1},
    }
    runs = {
        name: Run(PROGRAM, 2, mode=name.removesuffix("_elsewhere"), **arguments) for name, arguments in modes.items()
    }
    ended = {}
    for name, run in runs.items():
        with run:
            ended[name] = run.wait()
    for name, words in {
        "differ": "process 1 on",
        "wrong_input": "found by process 0",
        "wrong_input_elsewhere": "found by process 1",
        "train": "make `tensor` a divisor of the devices of a process",
    }.items():
        assert [each.status for each in ended[name]] == [EXIT_USER_ERROR] * 2, ended[name]
        (line,) = ended[name][0].errors.strip().splitlines()
        assert words in line and line.startswith("cm3leon: "), line
        assert not ended[name][1].errors.strip()
    assert "optimizer.learning_rate: 0.1 there, 0.2 elsewhere" in ended["differ"][0].errors
    assert [each.status for each in ended["bug"]] == [1, 1]
    assert "ZeroDivisionError" in ended["bug"][1].errors and "process 1" in ended["bug"][0].errors


def test_a_process_whose_companions_do_not_come_says_so_and_may_be_started_again():
    settings = {
        "CM3LEON_COORDINATOR": "localhost:1",
        "CM3LEON_PROCESS_COUNT": "2",
        "CM3LEON_PROCESS_INDEX": "1",
        "CM3LEON_JOIN_SECONDS": "2",
    }
    with Run(PROGRAM, 1, mode="bug", by=1, settings=settings) as absent:
        (ended,) = absent.wait(seconds=200)
    assert ended.status == EXIT_START_AGAIN, ended.errors
    assert len(lines(ended.errors)) == 1
    wrong = {"CM3LEON_PROCESS_INDEX": "2"}
    with Run(PROGRAM, 1, mode="bug", by=1, settings=settings | wrong) as nonsense:
        (ended,) = nonsense.wait()
    assert ended.status == EXIT_USER_ERROR and "must be 0 to 1" in ended.errors


def test_two_processes_start_from_a_trained_model_as_one_does(alone, tmp_path):
    for count in (1, 2):
        directory = str(tmp_path / str(count))
        with Run(PROGRAM, count, mode="train", directory=directory, steps=2, init_from=str(alone / "model")) as run:
            assert [each.status for each in run.wait()] == [0] * count
    one, two = (logged(tmp_path / count) for count in ("1", "2"))
    assert one[0]["train/loss"] < 0.9 * logged(alone)[0]["train/loss"]  # it starts where the other run ended
    for row, same in zip(two, one, strict=True):
        assert row["train/loss"] == pytest.approx(same["train/loss"], rel=1e-5)
    (_, _, found), (_, _, expected) = (load_decoder(tmp_path / count / "model") for count in ("2", "1"))
    np.testing.assert_allclose(found["embedding"]["tokens"], expected["embedding"]["tokens"], atol=1e-4)


def test_processes_that_see_other_weights_say_so(alone, tmp_path):
    config, vocabulary, params = load_decoder(alone / "model")
    for index in range(2):
        save_decoder(tmp_path / str(index), config, vocabulary, jax.tree.map(lambda leaf, by=index: leaf + by, params))
    init_from = str(tmp_path / "{}")
    with Run(PROGRAM, 2, mode="train", directory=str(tmp_path / "out"), steps=2, init_from=init_from) as run:
        ended = run.wait()
    assert [each.status for each in ended] == [EXIT_USER_ERROR] * 2, ended
    (line,) = lines(ended[0].errors)
    assert "differs from the others in the weights to start from" in line


def test_weights_come_onto_a_mesh_without_ever_being_whole(tmp_path):
    """Two processes of four devices. A process holds its half of the weights, and little else at any time."""
    layers, width = 24, 512
    config = DecoderConfig(vocab_size=512, num_layers=layers, d_model=width, num_heads=4, max_length=64)
    vocabulary = Vocabulary(text_size=200, image_size=200, num_sentinels=4, multiple_of=512)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract_params(config))
    save_decoder(tmp_path / "model", config, vocabulary, params)
    leaves = jax.tree.leaves(params)
    size, largest = sum(leaf.nbytes for leaf in leaves), max(leaf.nbytes for leaf in leaves)
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    arguments = {"mode": "place", "model": str(tmp_path / "model"), "report": str(tmp_path)}
    with Run(PROGRAM, 2, settings=devices, **arguments) as run:
        ended = run.wait()
    assert [each.status for each in ended] == [0, 0], ended
    total = sum(float(leaf.astype(np.float64).sum()) for leaf in leaves)
    for index in range(2):
        found = json.loads((tmp_path / f"{index}.json").read_text())
        print(found, size, largest, size / layers)
        assert found["sum"] == pytest.approx(total, abs=1.0)
        assert found["read"] <= 1.1 * size / 2
        assert found["grew"] <= size / 2 + 1.3 * size / layers
