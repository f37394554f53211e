"""Speed of a sampling rule with its draw beside the plain formulation with sorts: one line of JSON.

    python benchmarks/logits.py                      # on JAX's default device, and compiled for a TPU where libtpu is
    python benchmarks/logits.py --pairs 31 --rows 1,8

The plain formulation is what is usually written: `lax.top_k` for CD-K's threshold, a sort and a cumulated sum for
top-p, `jax.random.categorical` for the draw. Both draw by the same keys and must draw the same tokens. They take turns,
every other pair in reverse order; the ratio is the median over the pairs of each pair's ratio.

For the TPU nothing is run. The seconds of the XLA formulation are the compiler's estimates, loops with their counts;
those of the kernel are the instructions of its compiled schedule (`planning/schedule.py`), which has no waits in it: an
estimate from below. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import json
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.planning.chips import parse_slice
from cm3leon_jax.planning.compile import read_program, slice_devices
from cm3leon_jax.sampling import rules
from cm3leon_jax.sampling.draw import draw_tokens
from cm3leon_jax.sampling.rules import TWO_STREAMS, SamplingConfig

RULES = ("cdk", "guided", "top_p")
CONFIG = SamplingConfig()


def parse_arguments() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rules", default=RULES, type=lambda text: text.split(","))
    parser.add_argument("--vocabularies", default=[8192, 56_320], type=numbers, help="tokens that can be drawn")
    parser.add_argument("--rows", default=[1, 8, 64], type=numbers)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--slice", default="v5e-4", help="whose chip to compile for; empty: none")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    cases = []
    for rule, vocabulary, rows in itertools.product(arguments.rules, arguments.vocabularies, arguments.rows):
        case: dict[str, Any] = {"rule": rule, "vocabulary": vocabulary, "rows": rows}
        case |= measured(rule, vocabulary, rows, arguments.pairs)
        if arguments.slice and importlib.util.find_spec("libtpu") is not None:
            case["tpu"] = planned(rule, vocabulary, rows, arguments.slice)
        print(json.dumps(case), file=sys.stderr, flush=True)
        cases.append(case)
    device = jax.devices()[0]
    print(
        json.dumps(
            {
                "benchmark": "logits",
                "device": device.device_kind if device.platform == "gpu" else device.platform,
                "pairs": arguments.pairs,
                "slice": arguments.slice,
                "cases": cases,
            }
        )
    )


def measured(rule: str, vocabulary: int, rows: int, pairs: int) -> dict[str, Any]:
    """Medians over the pairs, and the share of rows in which both draw the same token."""
    logits = jax.random.normal(jax.random.key(0), (2 if rule in TWO_STREAMS else 1, rows, vocabulary)) * 3
    keys = jax.random.split(jax.random.key(1), rows)
    # Settings are arguments of our program, and constants of the other: top_k needs them so.
    programs = {
        "ours": functools.partial(jax.jit(functools.partial(draw_tokens, rule)), logits, keys, CONFIG.settings()),
        "sorting": functools.partial(jax.jit(functools.partial(sorting_draw, rule)), logits, keys),
    }
    drawn = {name: np.asarray(jax.block_until_ready(program())[0]) for name, program in programs.items()}
    calls = max(1, round(0.02 / seconds(programs["sorting"], 2)))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for pair in range(pairs):
        for name in programs if pair % 2 == 0 else reversed(programs):
            times[name].append(seconds(programs[name], calls))
    ratios = [theirs / ours for ours, theirs in zip(times["ours"], times["sorting"], strict=True)]
    found: dict[str, Any] = {f"{name}_ms": round(statistics.median(times[name]) * 1e3, 3) for name in programs}
    found |= {"ratio": round(statistics.median(ratios), 2)}
    return found | {"same_tokens": float(np.mean(drawn["ours"] == drawn["sorting"]))}


def seconds(program: Any, calls: int) -> float:
    """Of one call, of several started one after the other."""
    started = time.perf_counter()
    for _ in range(calls):
        result = program()
    jax.block_until_ready(result)
    return (time.perf_counter() - started) / calls


def sorting_draw(rule: str, logits_SxBxV: jax.Array, keys_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What `draw_tokens` gives, by sorts."""
    cond, uncond = logits_SxBxV[0], logits_SxBxV[-1]
    if rule == "cdk":
        bar_Bx1 = jax.lax.top_k(cond, CONFIG.cdk_k)[0].min(axis=-1, keepdims=True)  # sliced, it is slow on CPUs
        scores = rules.contrast(cond, uncond, bar_Bx1, CONFIG.settings())
    else:
        mixed = rules.guide((cond, uncond), CONFIG.guidance_scale, 0.0) if rule == "guided" else cond
        scores = mixed / CONFIG.temperature
        descending = jnp.sort(scores, axis=-1, descending=True)
        kept = jnp.cumsum(jax.nn.softmax(descending), axis=-1) < CONFIG.top_p
        least_Bx1 = jnp.take_along_axis(descending, kept.sum(axis=-1, keepdims=True), axis=-1)
        scores = jnp.where(scores >= least_Bx1, scores, -jnp.inf)
    index_B = jax.vmap(jax.random.categorical)(keys_B, scores)
    return index_B, jnp.take_along_axis(jax.nn.log_softmax(cond), index_B[:, None], axis=1)[:, 0]


def planned(rule: str, vocabulary: int, rows: int, slice_name: str) -> dict[str, Any]:
    """Of both implementations on one chip: microseconds, and the bytes that the kernel's block of logits has."""
    slice_ = parse_slice(slice_name)
    partitioning = Partitioning(make_mesh(MeshConfig(), slice_devices(slice_)[:1]))
    array = functools.partial(jax.ShapeDtypeStruct, sharding=partitioning.sharding())
    streams = 2 if rule in TWO_STREAMS else 1

    def program(logits: jax.Array, words: jax.Array, settings: dict, implementation: str) -> Any:
        keys_B = jax.random.wrap_key_data(words)
        return draw_tokens(rule, logits, keys_B, settings, partitioning, implementation=implementation)

    found: dict[str, Any] = {}
    for implementation in ("kernel", "xla"):
        lowered = jax.jit(program, static_argnums=3).lower(
            array((streams, rows, vocabulary), jnp.float32),
            array((rows, 2), jnp.uint32),
            CONFIG.settings(),
            implementation,
        )
        cost = read_program(lowered, partitioning, slice_).cost
        found[f"{implementation}_us"] = round((cost.computing + cost.kernels) * 1e6, 1)
        found |= {f"{implementation}_warnings": cost.warnings} if cost.warnings else {}
    return found | {"logits_bytes": 4 * streams * rows * vocabulary}


if __name__ == "__main__":
    main()
