"""How fast this machine trains a decoder, measured on a few steps of random tokens."""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

import jax
import numpy as np

from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.partitioning import Partitioning, make_mesh
from cm3leon_jax.runtime.devices import put_batch
from cm3leon_jax.runtime.progress import progress
from cm3leon_jax.training.optimizer import make_optimizer
from cm3leon_jax.training.step import accumulated_parts, init_state, make_train_step
from cm3leon_jax.training.train import TrainingConfig
from cm3leon_jax.vocabulary import Vocabulary


class Speed(NamedTuple):
    compile_seconds: float  # the first step
    step_seconds: float  # median of the following ones


def measure_speed(config: DecoderConfig, training: TrainingConfig, *, rows: int, length: int, steps: int) -> Speed:
    """Compiles the training step of `config` for batches of `rows` × `length` tokens and times `steps` steps.

    UserError: the rows do not divide over the devices."""
    partitioning = Partitioning(make_mesh(training.mesh), training.rules)
    accumulated_parts(rows, partitioning.batch_shards, training.step)  # UserError where the rows do not divide
    run_steps = 1_000_000  # of the learning rate's schedule
    optimizer = make_optimizer(training.optimizer, run_steps, partitioning)
    # Which ids are text and which are image matters to the metrics alone.
    vocabulary = Vocabulary(text_size=config.vocab_size // 2, image_size=1, num_sentinels=1, multiple_of=1)
    step = make_train_step(
        config,
        vocabulary,
        training.optimizer,
        run_steps,
        partitioning,
        training.step,
        training.hardware.compiler_options,
    )
    state = init_state(training.seed, config, optimizer, partitioning)
    batch = put_batch(_random_batch(config, rows, length), partitioning.sharding("batch"))
    seconds = []
    for _ in progress(range(steps + 1), label="steps", unit="steps"):
        started = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - started)
    return Speed(seconds[0], statistics.median(seconds[1:]))


def _random_batch(config: DecoderConfig, rows: int, length: int) -> dict[str, np.ndarray]:
    """This process's share of the rows; each is one document."""
    rng, shape = np.random.default_rng(0), (rows // jax.process_count(), length)
    ids = rng.integers(0, config.vocab_size, (*shape[:1], length + 1), dtype=np.int32)
    return {
        "tokens": ids[:, :-1],
        "targets": ids[:, 1:],
        "positions": np.broadcast_to(np.arange(length, dtype=np.int32), shape),
        "segments": np.ones(shape, np.int32),
        "weights": np.ones(shape, np.float32),
    }
