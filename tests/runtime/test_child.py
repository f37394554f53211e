"""Processes that a run of several commands starts."""

import os
import signal
import subprocess
import sys

import pytest

from cm3leon_jax.runtime.child import run_child
from cm3leon_jax.runtime.errors import StartAgain, UserError


@pytest.mark.parametrize(
    "ending, error",
    [("exit(2)", UserError), ("exit(42)", StartAgain), ("import os; os.kill(os.getpid(), 9)", StartAgain)],
)
def test_how_a_child_ends(ending, error):
    with pytest.raises(error, match="the work"):
        run_child([sys.executable, "-c", ending], "the work")


def test_a_bug_in_a_child_ends_the_run_with_its_status():
    with pytest.raises(SystemExit) as ended:
        run_child([sys.executable, "-c", "exit(7)"], "the work")
    assert ended.value.code == 7
    run_child([sys.executable, "-c", "pass"], "the work")


WAITS = "signal.signal(signal.SIGTERM, lambda *_: exit(42)); print('up', flush=True); time.sleep(60)"
CHILD = f"import signal, time; {WAITS}"
PARENT = f"""
import sys
from cm3leon_jax.runtime.child import run_child
from cm3leon_jax.runtime.errors import StartAgain
try:
    run_child([sys.executable, "-c", {CHILD!r}], "the work")
except StartAgain as error:
    print(error, flush=True)
"""


def test_who_ends_the_parent_ends_the_child_and_it_may_save():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "up\n"
    os.kill(parent.pid, signal.SIGTERM)
    said, _ = parent.communicate(timeout=300)
    assert "the work was interrupted" in said and parent.returncode == 0
