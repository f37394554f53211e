"""The toy training as a process of its own, to be killed."""

import json
import pathlib
import signal
import subprocess
import sys
import time

from cm3leon_jax.runtime.files import read_json_lines

PROGRAM = pathlib.Path(__file__).with_name("toy_training.py")


def start(directory, steps, *, hold=None, largest_file=0, plateau_steps=0):
    """`hold`: (learning rate's scale, step) behind which it waits to be killed or preempted, however late that is."""
    directory.mkdir(exist_ok=True)
    settings = (directory, steps, json.dumps(hold), largest_file, plateau_steps)
    arguments = [sys.executable, str(PROGRAM), *map(str, settings)]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def seen(directory):
    path = directory / "seen.jsonl"
    return read_json_lines(path)


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.001)


def preempt(process, directory):
    """-> the status with which it ends."""
    process.send_signal(signal.SIGTERM)
    go_on = directory / "go_on"
    go_on.touch()
    status = process.wait(300)
    go_on.unlink()
    return status


def kill(process):
    process.kill()
    process.wait()
