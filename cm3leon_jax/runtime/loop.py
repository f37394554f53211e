"""The one training loop. The decoder, the image tokenizer and the retriever are all trained by it.

It resumes from the last checkpoint, logs, evaluates, checkpoints, and turns SIGTERM to any of the processes into a
checkpoint and exit status 42. A run that hangs is ended by a watchdog; one whose loss does not fall any more goes back,
if asked to. What differs between models is a state (a pytree of arrays), a compiled step and a source of batches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from cm3leon_jax.runtime import restart
from cm3leon_jax.runtime.batches import MakeBatches, prefetched
from cm3leon_jax.runtime.checkpoints import Checkpoints
from cm3leon_jax.runtime.errors import StartAgain
from cm3leon_jax.runtime.files import Path
from cm3leon_jax.runtime.follower import Follower, Step
from cm3leon_jax.runtime.goodput import Goodput
from cm3leon_jax.runtime.logger import Logger, Rates
from cm3leon_jax.runtime.metrics import open_writers, read_metrics
from cm3leon_jax.runtime.profile import Profile
from cm3leon_jax.runtime.settings import LoopConfig
from cm3leon_jax.runtime.skipped import SkippedSteps
from cm3leon_jax.runtime.termination import Termination
from cm3leon_jax.runtime.watchdog import Watchdog


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingLoop:
    """Trains a state until `config.steps`.

    `train_step` may donate its state; its metric `finite`, if it gives one, is 0 where it has skipped the update. Where
    it is 1, another metric that is NaN is a mean over nothing, and is not logged.
    `evaluate(state, step)` gives held-out metrics, logged with the prefix `eval/`; `on_step(step, state)` runs before
    each evaluation and at the end, and may name pictures that it has drawn (PNG files). `rates(metrics of the step,
    steps a second)` gives metrics of speed.
    With `plateau_steps`, the state has a float32 scalar `learning_rate_scale`, and the metrics have a `loss`.
    """

    config: LoopConfig
    train_step: Callable[[Any, Any], tuple[Any, Mapping[str, jax.Array]]]
    make_batches: MakeBatches
    directory: Path
    label: str
    saved_config: dict
    evaluate: Callable[[Any, int], Mapping[str, float]] | None = None
    on_step: Callable[[int, Any], Mapping[str, Path] | None] | None = None
    rates: Rates | None = None

    def run(self, state: Any) -> Any:
        """Goes on at the last checkpoint, or begins with `state`, and returns the final state. Every process of the
        run calls it.

        Raises `StartAgain` when SIGTERM came to any process: the state is saved by then; and `UserError` when too many
        steps in a row were skipped, or the loss falls no more whatever the learning rate.
        """
        config, directory = self.config, self.directory
        restart.check_restarts(config, state, self.label)
        with (
            Watchdog(config, directory) as watchdog,
            Checkpoints(directory, keep=config.keep_checkpoints, timeout=config.save_timeout_seconds) as checkpoints,
            Termination() as termination,
            contextlib.closing(Profile(config.profile_steps, directory)) as profile,
        ):
            watchdog.expect("reading the last checkpoint", long=True)
            start = restart.resume(checkpoints, state)
            goodput = Goodput(read_metrics(directory))
            try:
                while start.step < config.steps:
                    state = self._stretch(start, watchdog, checkpoints, termination, profile, goodput)
                    if not start.plateau.reached:
                        return state
                    watchdog.expect("the return to an earlier checkpoint", long=True)
                    start = restart.go_back(checkpoints, state, config=config, plateau=start.plateau, label=self.label)
            finally:
                watchdog.expect("the end of the last save", long=True)
        return start.state

    def _stretch(
        self,
        start: restart.Start,
        watchdog: Watchdog,
        checkpoints: Checkpoints,
        termination: Termination,
        profile: Profile,
        goodput: Goodput,
    ) -> Any:
        """Trains up to the end or to a plateau, and returns the state there."""
        config = self.config
        step, state, position, plateau, restarted = start
        goodput.resumed(read_metrics(self.directory), step)
        writer = open_writers(config, self.directory, resume_step=step, saved_config=self.saved_config)
        if restarted:
            writer.write(step + 1, restarted)
        logger = Logger(writer, label=self.label, start=step, end=config.steps, goodput=goodput, rates=self.rates)
        # Where plateaus are looked for, too many skipped steps are one.
        limit = 0 if config.plateau_steps else config.max_skipped_in_a_row
        skipped = SkippedSteps(self.directory, limit=limit, resume_step=step)
        follower = Follower(config, watchdog=watchdog, goodput=goodput, skipped=skipped, plateau=plateau)
        # XLA's CPU devices share one pool of threads: steps queued behind each other can hold the very threads that the
        # first one's all-reduce waits for, which hangs.
        ahead = 0 if jax.default_backend() == "cpu" else 1
        unusual = True  # the first step is compiled, and whoever has written samples is waited for
        with (
            contextlib.closing(logger),
            contextlib.closing(skipped),
            contextlib.closing(prefetched(self.make_batches(position))) as batches,
        ):
            while step < config.steps and not plateau.reached:
                step += 1
                watchdog.expect(f"step {step}", long=unusual)
                profile.before(step, state)
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    before, waited_from = position, time.perf_counter()
                    batch, position = next(batches)
                    waited = time.perf_counter() - waited_from
                    state, metrics = self.train_step(state, batch)
                    follower.add(Step(step, before, metrics, waited, usual=not unusual), ahead=ahead)
                profile.after(step, metrics)
                last, unusual = step == config.steps, False
                if step % config.log_every == 0 or last:
                    # Waits for the step, so it is done only here: steps between overlap with input.
                    follower.catch_up()
                    logger.trained(step, metrics)
                stop = termination.requested(step)
                # Before the evaluation: where that fails, the steps are not lost.
                if last or stop or step % config.checkpoint_every == 0:
                    follower.catch_up()
                    if not plateau.reached:
                        watchdog.expect(f"the checkpoint of step {step}", long=True)
                        arguments = restart.to_save(step, position, plateau, config)
                        checkpoints.save(step, state, config=self.saved_config, **arguments)
                        unusual = True
                if last or (config.evaluate_every and step % config.evaluate_every == 0):
                    follower.catch_up()
                    watchdog.expect(f"the evaluation at step {step}", long=True)
                    pictures = (self.on_step(step, state) if self.on_step is not None else None) or {}
                    values = self.evaluate(state, step) if self.evaluate is not None else {}
                    logger.evaluated(step, values, pictures)
                    unusual = True
                if stop and not last:
                    raise StartAgain(f"stopped at step {step} with its state saved; the same command continues")
        return state
