"""Speed of the training stream on one core, beside what a host of a 7B run consumes: one line of JSON.

    python benchmarks/input_pipeline.py

Prepared documents of the paper's size (1,024 codes, captions of 5 to 60 tokens, CLIP embeddings of 512 dimensions),
more than are kept in memory; pairs behind two retrieved documents, blocks of 4,096 tokens. Beside it the same tasks by
seqio's own datasets, which is what else one would use, in turns with it. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cm3leon_jax.data.settings import StreamConfig

LENGTH = 4096
# 7B on a v5p-256 slice as planned (docs/recipes.md): 2,048 rows in 8.11 s, on hosts of 4 chips.
NEEDED = 2048 * LENGTH / 8.11 / 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=80_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each in each round")
    parser.add_argument("--scratch", help="a folder for the documents; by default the system's")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before TensorFlow counts the cores

    from cm3leon_jax.data.objective import ObjectiveConfig
    from cm3leon_jax.data.settings import PretrainingConfig, StreamConfig
    from cm3leon_jax.data.stream import make_stream
    from cm3leon_jax.data.tasks import RETRIEVAL_AUGMENTED, pretraining_mixture

    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        print(f"writing {arguments.documents:,} documents …", file=sys.stderr, flush=True)
        write_random_documents(pathlib.Path(folder), arguments.documents)
        pretraining = PretrainingConfig(retrieved_min=2, retrieved_max=2)
        config = StreamConfig(length=LENGTH, batch_size=64, lanes=64)
        with pretraining_mixture(folder, "speed", pretraining) as name:
            stream = make_stream(name, config, ObjectiveConfig())
            streams = {
                "ours": (batch["tokens"].size for batch, _ in stream(None)),
                "seqio": seqio_tokens(f"{name}.{RETRIEVAL_AUGMENTED}", config),
            }
            rates = measure(streams, arguments.rounds, arguments.seconds)
            last = config.chapter_steps - 1
            seeks = {
                step: seconds_to_first(stream, step)
                for step in (0, last, 3_000 * (last + 1), 3_000 * (last + 1) + last)
            }
            whole = make_stream(name, dataclasses.replace(config, packing="whole"), ObjectiveConfig()).fill
    result = {
        "benchmark": "input_pipeline",
        "tokens_per_second_and_core": {each: round(rate) for each, rate in rates.items()},
        "ratio": round(rates["ours"] / rates["seqio"], 2),
        "needed_by_a_host": round(NEEDED),
        "times_needed": round(rates["ours"] / NEEDED, 1),
        "share_not_padding": {"straddle": stream.fill, "whole": round(whole, 4)},
        "seconds_to_seek_step": {str(step): round(seconds, 2) for step, seconds in seeks.items()},
    }
    print(json.dumps(result))


def write_random_documents(folder: pathlib.Path, count: int) -> None:
    from simulated import random_records, write_documents

    from cm3leon_jax.vocabulary import CM3LEON

    write_documents(folder, CM3LEON, random_records(count, CM3LEON), count)


def seqio_tokens(task: str, config: StreamConfig) -> Iterator[int]:
    """The tokens of each row of the task as seqio gives it."""
    import seqio

    from cm3leon_jax.data.objective import Objective
    from cm3leon_jax.data.seqio_rows import RowConverter
    from cm3leon_jax.vocabulary import CM3LEON

    dataset = seqio.get_dataset(
        task,
        {"tokens": LENGTH},
        RowConverter(config, Objective(CM3LEON)),
        dataset_split="train",
        shuffle=True,
        seed=0,
        num_epochs=None,
    )
    return (row["tokens"].size for row in dataset.as_numpy_iterator())


def measure(streams: dict[str, Iterator[int]], rounds: int, seconds: float) -> dict[str, float]:
    """Tokens a second of each, the median of rounds in which they take turns."""
    found: dict[str, list[float]] = {name: [] for name in streams}
    for stream in streams.values():
        next(stream)
    for number in range(rounds):
        for name, stream in streams.items():
            tokens, start = 0, time.perf_counter()
            while (taken := time.perf_counter() - start) < seconds:
                tokens += next(stream)
            found[name].append(tokens / taken)
            print(f"round {number + 1}: {name} {tokens / taken:,.0f} tokens/s", file=sys.stderr, flush=True)
    return {name: statistics.median(rates) for name, rates in found.items()}


def seconds_to_first(stream, step: int) -> float:
    """From a position to its first batch; the one before the last step of a chapter is the worst."""
    position = next(itertools.islice(stream(None), 1))[1] | {"step": step}
    start = time.perf_counter()
    next(stream(position))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
