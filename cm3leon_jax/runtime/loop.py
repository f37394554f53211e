"""The one training loop. The decoder, the image tokenizer and the retriever are all trained by it.

It resumes from the last checkpoint, logs, evaluates, checkpoints, and turns SIGTERM into a checkpoint and exit status
42. What differs between models is a state (a pytree of arrays), a compiled step and a source of batches.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import jax

from cm3leon_jax.runtime.checkpoints import Checkpoints
from cm3leon_jax.runtime.errors import StartAgain
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.runtime.metrics import MetricsWriter
from cm3leon_jax.runtime.progress import progress
from cm3leon_jax.runtime.settings import LoopConfig

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
    """Runs an iterator in a thread, `depth` items ahead. An error in it is raised where the item was due."""
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


def _put(items: queue.Queue, item: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            items.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False


def run_loop(
    config: LoopConfig,
    *,
    state: Any,
    train_step: Callable[[Any, Any], tuple[Any, Mapping[str, jax.Array]]],
    make_batches: MakeBatches,
    directory: Path,
    label: str,
    saved_config: dict,
    evaluate: Callable[[Any, int], Mapping[str, float]] | None = None,
    on_step: Callable[[int, Any], None] | None = None,
    rates: Callable[[Mapping[str, float], float], Mapping[str, float]] | None = None,
) -> Any:
    """Trains until `config.steps` and returns the final state.

    `train_step` may donate its state. `evaluate(state, step)` gives held-out metrics, logged with the prefix `eval/`;
    `on_step(step, state)` runs before each evaluation and at the end (samples, pictures). `rates(metrics of the step,
    steps a second)` gives metrics of speed.
    Raises `StartAgain` when SIGTERM came: the state is saved by then.
    """
    with Checkpoints(directory, keep=config.keep_checkpoints) as checkpoints, _Termination() as termination:
        start, position = 0, None
        if checkpoints.latest_step() is not None:
            start, state, position = checkpoints.restore(state)
        if start >= config.steps:
            return state
        writer = MetricsWriter(directory, resume_step=start)
        bar = progress(label=label, total=config.steps, unit="steps", start=start)
        batches = prefetched(make_batches(position))
        pending: Mapping[str, jax.Array] | None = None
        logged_at, logged_step = time.perf_counter(), start
        # XLA's CPU devices share one pool of threads: steps queued behind each other can hold the very threads that the
        # first one's all-reduce waits for, which hangs.
        one_at_a_time = jax.default_backend() == "cpu"
        try:
            for step in range(start + 1, config.steps + 1):
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    batch, position = next(batches)
                    state, pending = train_step(state, batch)
                    if one_at_a_time:
                        jax.block_until_ready(pending)
                last = step == config.steps
                if step % config.log_every == 0 or last:
                    # Reading the values waits for the step, so it is done only here: steps between overlap with input.
                    values = {name: float(value) for name, value in jax.device_get(pending).items()}
                    now = time.perf_counter()
                    speed = (step - logged_step) / (now - logged_at)
                    speeds = {"steps_per_second": speed, **(rates(values, speed) if rates is not None else {})}
                    writer.write(step, {f"train/{name}": value for name, value in (values | speeds).items()})
                    bar.set_postfix_str(f"loss {values.get('loss', float('nan')):.4f}", refresh=False)
                    bar.update(step - bar.n)
                    logged_at, logged_step = now, step
                if last or (config.evaluate_every and step % config.evaluate_every == 0):
                    if on_step is not None:
                        on_step(step, state)
                    if evaluate is not None:
                        writer.write(step, {f"eval/{name}": value for name, value in evaluate(state, step).items()})
                    logged_at, logged_step = time.perf_counter(), step
                if last or termination.requested or step % config.checkpoint_every == 0:
                    checkpoints.save(step, state, position=position, config=saved_config)
                if termination.requested and not last:
                    raise StartAgain(f"stopped at step {step} with its state saved; the same command continues")
        finally:
            bar.close()
            batches.close()
            writer.close()
    return state


class _Termination:
    """Notes SIGTERM instead of dying of it. Only the main thread can set handlers; elsewhere nothing is noted."""

    requested = False

    def __enter__(self) -> _Termination:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._previous)

    def _note(self, *_: object) -> None:
        self.requested = True
