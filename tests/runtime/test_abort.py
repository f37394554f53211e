"""An abort of JAX's because others are gone becomes a status; an abort of this process's own stays one."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, threading
from cm3leon_jax.runtime.abort import exit_instead
exit_instead(lambda: 5)
exit_instead(lambda: {status})
thread = threading.Thread(target=os.abort)  # as JAX does: not in the main thread, which waits
thread.start()
thread.join()
"""


@pytest.mark.parametrize(("status", "expected"), [("42", 42), ("None", -signal.SIGABRT)])
def test_an_abort_ends_with_the_status_that_is_asked_for(status, expected):
    result = subprocess.run([sys.executable, "-c", PROGRAM.format(status=status)], capture_output=True, timeout=300)
    assert result.returncode == expected, result.stderr
