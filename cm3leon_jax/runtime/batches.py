"""Where a training loop's batches come from: a source that continues behind any position, read ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

# From a position (None: the beginning) -> batches, each with the position that continues right behind it. A position
# is a small JSON-able dict, saved in the same checkpoint step as the state: a resumed run sees the same batches.
MakeBatches = Callable[[dict | None], Iterator[tuple[Any, dict]]]


def batches_by_step(batch_of_step: Callable[[int], Any]) -> MakeBatches:
    """`MakeBatches` for data where the batch of a step is a plain function of the step."""

    def make(position: dict | None) -> Iterator[tuple[Any, dict]]:
        step = 0 if position is None else position["step"]
        while True:
            yield batch_of_step(step), {"step": step + 1}
            step += 1

    return make


def prefetched(batches: Iterator, depth: int = 2) -> Generator[Any, None, None]:
    """Runs an iterator in a thread, `depth` items ahead. An error in it is raised where the item was due.

    Closing it waits for the item that is being made: a thread that is still inside compiled code while Python takes
    itself apart aborts the process.
    """
    items: queue.Queue = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def fill() -> None:
        try:
            for item in batches:
                if not _put(items, (item, None), stopped):
                    return
            _put(items, (None, StopIteration()), stopped)
        except BaseException as error:
            _put(items, (None, error), stopped)

    thread = threading.Thread(target=fill, daemon=True, name="prefetch")
    thread.start()
    try:
        while True:
            item, error = items.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join()


def _put(items: queue.Queue, item: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            items.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
