"""The toy training as a process of its own, to be killed."""

import pathlib
import subprocess
import sys
import time

from cm3leon_jax.runtime.files import read_json_lines

PROGRAM = pathlib.Path(__file__).with_name("toy_training.py")


def start(directory, steps, *, pause=0.0, largest_file=0, plateau_steps=0):
    directory.mkdir(exist_ok=True)
    settings = (directory, steps, pause, largest_file, plateau_steps)
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


def kill(process):
    process.kill()
    process.wait()
