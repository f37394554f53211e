"""A program for `benchmarks/worker.py` that sleeps or dies when it is told to, and starts a process as compilers do."""

import os
import signal
import subprocess
import sys
import time


class StandIn:
    """`fault` happens in the call of number `call`; call 0 is the constructor's. `pipe`: a FIFO that the process which
    it starts keeps open."""

    def __init__(self, pipe: str, fault: str = "", call: int = 0, seconds: float = 0.001, dtype: str = "float32"):
        with open(pipe, "w") as held:
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], stdout=held)
        self._fault, self._call, self._calls, self._seconds = fault, call, -1, seconds
        self.about = {"dtype": dtype, "losses": [1.0, 0.9, 0.8]}
        self._count()

    def run(self, steps: int) -> dict[str, float]:
        self._count()
        return {"seconds": steps * self._seconds}

    def _count(self) -> None:
        self._calls += 1
        if self._calls != self._call:
            return
        if self._fault == "sleep":
            time.sleep(1000)
        if self._fault == "exit":
            os._exit(3)
        if self._fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "raise":
            raise ValueError("a bad size")
