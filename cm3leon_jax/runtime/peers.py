"""A thread that watches the other processes of a run, through the key-value store of process 0.

Each process leaves a sign of life there every few seconds, and the status with which it ends, if it ends before its
time: the others then end with the same status, instead of waiting for it in a collective.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any

_ALIVE, _ENDED, _KNOWN = "cm3leon/alive/", "cm3leon/ended/", "cm3leon/known/"


class Peers:
    """Calls, from its thread, `on_end(status, line)` when another process has ended, and `on_silence(line)` when none
    was heard of one for `timeout` seconds.

    `client` is JAX's client of the coordination service, which is safe to use from several threads.
    """

    def __init__(
        self,
        client: Any,
        index: int,
        count: int,
        timeout: float,
        *,
        on_end: Callable[[int, str], None],
        on_silence: Callable[[str], None],
    ) -> None:
        self._client, self._index, self._count = client, index, count
        self._timeout, self._interval = timeout, min(2.0, timeout / 8)
        self._on_end, self._on_silence = on_end, on_silence
        self._stopped = threading.Event()
        now = time.monotonic()
        self._answered = now  # when process 0's store last answered
        self._heard = {other: ("", now) for other in range(count) if other != index}
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peers")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def publish(self, status: int, line: str) -> None:
        """Tells the others to end with this status. Gives up after some seconds, where process 0 does not answer."""
        thread = threading.Thread(target=self._publish, args=(status, line), daemon=True)
        thread.start()
        thread.join(5)

    def _publish(self, status: int, line: str) -> None:
        with contextlib.suppress(RuntimeError):  # process 0 is gone, which the others notice too
            self._client.key_value_set(f"{_ENDED}{self._index}", json.dumps([status, line]), allow_overwrite=True)
            self._know()

    def wait_until_known(self) -> None:
        """Before the end: waits until all processes have read how, or are silent, for some seconds at most."""
        deadline = time.monotonic() + 2 * self._interval + 1
        while time.monotonic() < deadline:
            try:
                if len(self._client.key_value_dir_get(_KNOWN)) >= self._count:
                    break
            except RuntimeError:
                return
            time.sleep(0.05)
        if self._index == 0:
            time.sleep(0.5)  # the others ask process 0, which therefore is the last to go

    def anyone_silent(self) -> bool:
        """Whether some process has not been heard of for longer than it should."""
        return self._longest_silence()[0] > 3 * self._interval

    def wait_for_silence(self) -> bool:
        """Waits as long as it takes to be sure; True where another process is gone. (Its end is then acted upon.)"""
        deadline = time.monotonic() + self._timeout
        while time.monotonic() < deadline:
            if self.anyone_silent():
                return True
            time.sleep(0.1)
        return False

    def _longest_silence(self) -> tuple[float, str]:
        now = time.monotonic()
        silences = [(now - since, f"process {other}") for other, (_, since) in self._heard.items()]
        return max([*silences, (now - self._answered, "process 0")])

    def _watch(self) -> None:
        beats = 0
        while not self._stopped.wait(self._interval):
            beats += 1
            try:
                self._client.key_value_set(f"{_ALIVE}{self._index}", str(beats), allow_overwrite=True)
                alive = self._client.key_value_dir_get(_ALIVE)
                ended = self._client.key_value_dir_get(_ENDED)
            except RuntimeError:
                alive, ended = [], []
            else:
                self._answered = time.monotonic()
            for key, beat in alive:
                other = int(key.removeprefix(_ALIVE))
                if other != self._index and self._heard[other][0] != beat:
                    self._heard[other] = (beat, time.monotonic())
            if ended and not self._stopped.is_set():
                self._know()
                self._on_end(*json.loads(min(ended)[1]))
            silence, who = self._longest_silence()
            if silence > self._timeout and not self._stopped.is_set():
                self._on_silence(f"{who} has not been heard of for {silence:.0f} s; start again")

    def _know(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._client.key_value_set(f"{_KNOWN}{self._index}", "", allow_overwrite=True)
