"""The one training loop. The decoder, the image tokenizer and the retriever are all trained by it.

It resumes from the last checkpoint, logs, evaluates, checkpoints, and turns SIGTERM to any of the processes into a
checkpoint and exit status 42. A run that hangs is ended by a watchdog; one whose loss does not fall any more goes back,
if asked to. What differs between models is a state (a pytree of arrays), a compiled step and a source of batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax

from cm3leon_jax.runtime import restart
from cm3leon_jax.runtime.batches import MakeBatches, prefetched
from cm3leon_jax.runtime.checkpoints import Checkpoints
from cm3leon_jax.runtime.errors import StartAgain
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.runtime.follower import Follower, Step
from cm3leon_jax.runtime.goodput import Goodput
from cm3leon_jax.runtime.metrics import Writers, open_writers, read_metrics
from cm3leon_jax.runtime.profile import Profile
from cm3leon_jax.runtime.progress import progress
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.runtime.skipped import SkippedSteps
from cm3leon_jax.runtime.termination import Termination
from cm3leon_jax.runtime.watchdog import Watchdog


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
    on_step: Callable[[int, Any], Mapping[str, Path] | None] | None = None,
    rates: Callable[[Mapping[str, float], float], Mapping[str, float]] | None = None,
) -> Any:
    """Trains until `config.steps` and returns the final state. Every process of the run calls it.

    `train_step` may donate its state; its metric `finite`, if it gives one, is 0 where it has skipped the update. Where
    it is 1, another metric that is NaN is a mean over nothing, and is not logged.
    `evaluate(state, step)` gives held-out metrics, logged with the prefix `eval/`; `on_step(step, state)` runs before
    each evaluation and at the end, and may name pictures that it has drawn (PNG files). `rates(metrics of the step,
    steps a second)` gives metrics of speed.
    With `plateau_steps`, the state has a float32 scalar `learning_rate_scale`, and the metrics have a `loss`.
    Raises `StartAgain` when SIGTERM came to any process: the state is saved by then; and `UserError` when too many
    steps in a row were skipped, or the loss falls no more whatever the learning rate.
    """
    restart.check_restarts(config, state, label)
    profile = Profile(config.profile_steps, directory)
    with (
        Watchdog(config, directory) as watchdog,
        Checkpoints(directory, keep=config.keep_checkpoints, timeout=config.save_timeout_seconds) as checkpoints,
        Termination() as termination,
    ):
        watchdog.expect("reading the last checkpoint", long=True)
        step, state, position, plateau, restarted = restart.resume(checkpoints, state)
        if step >= config.steps:
            return state
        goodput = Goodput(read_metrics(directory), step)

        def opened() -> tuple[Writers, SkippedSteps, Follower, Generator[Any, None, None]]:
            writer = open_writers(config, directory, resume_step=step, saved_config=saved_config)
            if restarted:
                writer.write(step + 1, restarted)
            # Where plateaus are looked for, too many skipped steps are one.
            limit = 0 if config.plateau_steps else config.max_skipped_in_a_row
            skipped = SkippedSteps(directory, limit=limit, resume_step=step)
            follower = Follower(config, watchdog=watchdog, goodput=goodput, skipped=skipped, plateau=plateau)
            return writer, skipped, follower, prefetched(make_batches(position))

        writer, skipped, follower, batches = opened()
        bar = progress(label=label, total=config.steps, unit="steps", start=step)
        logged_at, logged_step = time.perf_counter(), step
        # XLA's CPU devices share one pool of threads: steps queued behind each other can hold the very threads that the
        # first one's all-reduce waits for, which hangs.
        ahead = 0 if jax.default_backend() == "cpu" else 1
        long = True  # the first step is compiled, and whoever has written samples is waited for
        try:
            while step < config.steps:
                step += 1
                watchdog.expect(f"step {step}", long=long)
                profile.before(step, state)
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    before, waited_from = position, time.perf_counter()
                    batch, position = next(batches)
                    waited = time.perf_counter() - waited_from
                    state, metrics = train_step(state, batch)
                    follower.add(Step(step, before, metrics, waited, usual=not long), ahead=ahead)
                profile.after(step, metrics)
                last, long = step == config.steps, False
                if step % config.log_every == 0 or last:
                    # Waits for the step, so it is done only here: steps between overlap with input.
                    follower.catch_up()
                    values = _logged(metrics)
                    now = time.perf_counter()
                    speed = (step - logged_step) / (now - logged_at)
                    values |= {"steps_per_second": speed, **(rates(values, speed) if rates is not None else {})}
                    values |= goodput.values()
                    writer.write(step, {f"train/{name}": value for name, value in values.items()})
                    bar.set_postfix_str(_status(values), refresh=False)
                    bar.update(step - bar.n)
                    logged_at, logged_step = now, step
                if last or (config.evaluate_every and step % config.evaluate_every == 0):
                    follower.catch_up()
                    watchdog.expect(f"the evaluation at step {step}", long=True)
                    for name, picture in ((on_step(step, state) if on_step is not None else None) or {}).items():
                        writer.picture(step, name, picture)
                    if evaluate is not None:
                        writer.write(step, {f"eval/{name}": value for name, value in evaluate(state, step).items()})
                    logged_at, logged_step, long = time.perf_counter(), step, True
                stop = termination.requested(step)
                if last or stop or step % config.checkpoint_every == 0:
                    follower.catch_up()
                    if not plateau.reached:
                        watchdog.expect(f"the checkpoint of step {step}", long=True)
                        arguments = restart.to_save(step, position, plateau, config)
                        checkpoints.save(step, state, config=saved_config, **arguments)
                        long = True
                if stop and not last:
                    raise StartAgain(f"stopped at step {step} with its state saved; the same command continues")
                if plateau.reached:
                    watchdog.expect("the return to an earlier checkpoint", long=True)
                    step, state, position, plateau, restarted = restart.go_back(
                        checkpoints, state, config=config, plateau=plateau, label=label
                    )
                    batches.close()
                    skipped.close()
                    writer.close()
                    goodput.went_back(read_metrics(directory), step)
                    writer, skipped, follower, batches = opened()
                    logged_at, logged_step, long = time.perf_counter(), step, True
        finally:
            watchdog.expect("the end of the last save", long=True)
            bar.close()
            batches.close()
            profile.close()
            skipped.close()
            writer.close()
    return state


def _logged(metrics: Mapping[str, jax.Array]) -> dict[str, float]:
    """What is logged of a step's metrics."""
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    if values.pop("finite", 0.0):
        return {name: value for name, value in values.items() if not math.isnan(value)}
    return values


def _status(values: Mapping[str, float]) -> str:
    """The line beside the progress bar."""
    parts = [f"loss {values.get('loss', float('nan')):.4f}"]
    if "tokens_per_second" in values:
        parts.append(f"{values['tokens_per_second']:,.0f} tokens/s")
    if "mfu" in values:
        parts.append(f"MFU {values['mfu']:.0%}")
    return ", ".join([*parts, f"goodput {values['goodput']:.0%}"])
