"""Speed of the decoder's training step on random packed batches: one line of JSON.

    python benchmarks/train_step.py --dtype bfloat16

The demo's model by default (4 layers, d = 128, vocabulary 1536, 32 rows of 288 tokens, some three examples in each).
On a CPU the process starts itself again with one XLA device for each core and the allocator's settings, as `cm3leon`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from cm3leon_jax.runtime.platform import prepare_process


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--d_model", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=1536)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=288)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--stack", default="unroll", choices=("scan", "unroll"))
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--loss_chunk", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to time steps")
    parser.add_argument("--profile", default="", help="a folder to write a profile to")
    return parser.parse_args()


def make_batch(rows: int, length: int, vocabulary_size: int) -> dict:
    """Three examples in each row, of unequal lengths."""
    import numpy as np

    rng = np.random.default_rng(0)
    tokens = rng.integers(3, vocabulary_size, (rows, length + 1), dtype=np.int32)
    cuts = np.sort(rng.integers(length // 4, 3 * length // 4, (rows, 2)), axis=1)
    places = np.arange(length)
    segments = 1 + (places >= cuts[:, :1]).astype(np.int32) + (places >= cuts[:, 1:])
    starts = np.where(segments == 1, 0, np.where(segments == 2, cuts[:, :1], cuts[:, 1:]))
    return {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "weights": np.ones((rows, length), np.float32),
        "positions": (places - starts).astype(np.int32),
        "segments": segments.astype(np.int32),
    }


def main() -> None:
    arguments = parse_arguments()
    import jax

    from cm3leon_jax.model.config import DecoderConfig, parameter_count, training_flops_per_token
    from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
    from cm3leon_jax.runtime.devices import put_batch
    from cm3leon_jax.training.optimizer import OptimizerConfig, make_optimizer
    from cm3leon_jax.training.step import StepConfig, init_state, make_train_step
    from cm3leon_jax.vocabulary import Vocabulary

    config = DecoderConfig(
        vocab_size=arguments.vocabulary,
        num_layers=arguments.layers,
        d_model=arguments.d_model,
        num_heads=arguments.heads,
        max_length=arguments.length,
        init_std=0.02,
        compute_dtype=arguments.dtype,
        stack=arguments.stack,
        attention=arguments.attention,
    )
    vocabulary = Vocabulary(text_size=arguments.vocabulary - 600, image_size=512, num_sentinels=16, multiple_of=1)
    partitioning = Partitioning(make_mesh(MeshConfig()))
    optimizer = OptimizerConfig(learning_rate=1e-3, warmup_steps=10)
    state = init_state(0, config, make_optimizer(optimizer, 1000), partitioning)
    train_step = make_train_step(
        config, vocabulary, optimizer, 1000, partitioning, StepConfig(loss_chunk=arguments.loss_chunk)
    )
    batch = put_batch(
        make_batch(arguments.rows, arguments.length, arguments.vocabulary), partitioning.sharding("batch")
    )

    started = time.perf_counter()
    state, metrics = jax.block_until_ready(train_step(state, batch))
    compiled = time.perf_counter() - started
    seconds = []
    while sum(seconds) < arguments.seconds:
        started = time.perf_counter()
        state, metrics = jax.block_until_ready(train_step(state, batch))
        seconds.append(time.perf_counter() - started)
    if arguments.profile:
        with jax.profiler.trace(arguments.profile):
            for _ in range(3):
                state, metrics = jax.block_until_ready(train_step(state, batch))
    tokens = arguments.rows * arguments.length
    median = statistics.median(seconds)
    result = {
        "benchmark": "train_step",
        "tokens_per_second": round(tokens / median),
        "tokens_per_second_best": round(tokens / min(seconds)),
        "gflops_per_second": round(training_flops_per_token(config, arguments.length) * tokens / median / 1e9, 1),
        "parameters": parameter_count(config),
        "first_step_seconds": round(compiled, 2),
        "steps": len(seconds),
        "loss": round(float(metrics["loss"]), 4),
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        **{name: getattr(arguments, name) for name in ("dtype", "stack", "rows", "length")},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    prepare_process(sys.argv[1:], program=(sys.argv[0],))
    main()
