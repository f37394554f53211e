"""What JAX's coordination service aborts becomes an exit status.

Where a process dies, JAX ends all others by `abort()` from a thread of its own; a callback in its place cannot be given
from Python (its argument has no Python type). So the signal that abort() raises is caught, and a question asked: with
which status should this process end? If with none, it is a bug of its own, and it ends by SIGABRT as it would have.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
_installed: ctypes._FuncPointer | None = None
_status: Callable[[], int | None] | None = None


def exit_instead(status: Callable[[], int | None]) -> None:
    """From now on an abort ends the process with `status()`, unless that is None."""
    global _installed, _status
    _status = status
    if _installed is None:
        # Python's own handlers run between two instructions of the main thread, and abort() does not wait for that.
        _installed = _Handler(_on_abort)
        libc = ctypes.CDLL(None)
        libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, _Handler], ctypes.c_void_p
        libc.signal(signal.SIGABRT, _installed)


def _on_abort(_: int) -> None:
    status = _status() if _status is not None else None
    if status is not None:
        os.write(2, b"cm3leon: ended with the other processes of the run\n")
        os._exit(status)
