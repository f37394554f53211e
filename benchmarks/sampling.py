"""Image tokens a second of our sampling engine beside Hugging Face's `generate`: one line of JSON.

    python benchmarks/sampling.py --size demo                          # on a CPU; or d512
    python benchmarks/sampling.py --size 350m --device gpu --rows 1    # on a GPU; or 760m

A decoder of random weights is made, and exported for the peer. All programs draw `--rows` images at once by the same
rule, guidance with top-p; on a CPU they take turns, `--rounds` rounds, every other in reverse order, and ratios of
speeds are medians over the rounds of each round's ratio. The limit is what reading the weights and the cache once a
token takes at the memory's speed, measured in the same run. A program that is not ready in `--limit_seconds` is left
out: `unavailable` says why, and the peer is the fastest without `peers_missing`. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
from typing import Any

from machine import describe_machine
from programs import Program, jax_environment
from rounds import Measured, add_arguments, measure, missing
from sampling_case import SIZES, SamplingCase

from cm3leon_jax.cli import main as cm3leon
from cm3leon_jax.model.config import DecoderConfig, non_embedding_parameters
from cm3leon_jax.vocabulary import Vocabulary

GOALS = {"cpu": 3.0, "gpu": 2.0}  # of the ratio to the peer's fastest
GOAL_OF_LIMIT = 0.7  # at one row, on a GPU


def main() -> None:
    arguments = parse_arguments()
    case = SIZES[arguments.size]
    if arguments.rows:
        case = dataclasses.replace(case, rows=arguments.rows)
    with tempfile.TemporaryDirectory() as scratch:
        measured = measure(programs_of(case, arguments.device, pathlib.Path(scratch)), arguments)
    if not measured.abouts:
        sys.exit(f"nothing was measured: {measured.unavailable or 'no such program'}")
    result = {"benchmark": "sampling", "size": arguments.size, "device": arguments.device}
    result |= {"machine": describe_machine(), "case": dataclasses.asdict(case), "rounds": arguments.rounds}
    result |= summary(case, arguments.device, measured)
    print(json.dumps(result | missing(measured, arguments)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="demo", choices=SIZES)
    parser.add_argument("--rows", type=int, help="images at once, instead of 4")
    add_arguments(parser, rounds=7)
    return parser.parse_args()


def programs_of(case: SamplingCase, device: str, scratch: pathlib.Path) -> dict[str, Program]:
    from export_memory import write_random

    vocabulary = Vocabulary(text_size=case.text_size, image_size=case.image_codes, num_sentinels=16)
    config = DecoderConfig(
        num_layers=case.layers,
        d_model=case.d_model,
        num_heads=case.heads,
        vocab_size=vocabulary.size,
        max_length=case.text_tokens + 2 + case.image_tokens,
    )
    decoder, exported, sizes = str(scratch / "decoder"), str(scratch / "exported"), dataclasses.asdict(case)
    write_random(decoder, config, vocabulary, scale=0.02)
    with contextlib.redirect_stdout(sys.stderr):
        assert cm3leon(["export", f"--decoder={decoder}", f"--directory={exported}"]) == 0
    found = {"limit_memory": Program("bandwidth:Bandwidth", {"device": device}, jax_environment(device), prepared=True)}
    for dtype in ("bfloat16", "float32"):
        settings = {"sizes": sizes, "decoder": decoder, "dtype": dtype, "device": device}
        found[f"ours_{dtype}"] = Program("sample_ours:OurSampler", settings, jax_environment(device), prepared=True)
        for cache in ("dynamic", "static"):
            for compiled in (False, True):
                name = f"torch_{dtype}_{cache}_{'compiled' if compiled else 'eager'}"
                settings = {"sizes": sizes, "exported": exported, "dtype": dtype, "cache": cache}
                settings |= {"compiled": compiled, "device": device}
                found[name] = Program("sample_torch:TorchSampler", settings, {})
    return found


def summary(case: SamplingCase, device: str, measured: Measured) -> dict[str, Any]:
    abouts, rounds = measured.abouts, measured.rounds
    samplers = [name for name in abouts if not name.startswith("limit")]
    seconds = {name: statistics.median(answers[name]["seconds"] for answers in rounds) for name in samplers}
    speeds = {name: case.tokens / seconds[name] for name in samplers}
    memory = max(
        (answers["limit_memory"]["bytes_per_second"] for answers in rounds if "limit_memory" in answers), default=None
    )
    programs = {}
    for name in samplers:
        limit = memory and memory / bytes_per_step(case, 4 if abouts[name]["dtype"] == "float32" else 2) * case.rows
        share = limit and round(speeds[name] / limit, 3)
        programs[name] = abouts[name] | {
            "image_tokens_per_second": round(speeds[name], 1),
            "share_of_memory_limit": share,
        }
    peers = [name for name in samplers if name.startswith("torch")]
    fastest = max(peers, key=speeds.__getitem__, default=None)
    ratios = {
        name: round(statistics.median(answers[fastest]["seconds"] / answers[name]["seconds"] for answers in rounds), 3)
        for name in samplers
        if name.startswith("ours") and fastest
    }
    best = max(ratios.values(), default=None)
    return {
        "memory_bytes_per_second": memory and round(memory),
        "programs": programs,
        "peer": fastest,
        "ratios": ratios,
        "goal": GOALS[device],
        "reached": best and best >= GOALS[device],
        "goal_of_limit": GOAL_OF_LIMIT if device == "gpu" and case.rows == 1 else None,
    }


def bytes_per_step(case: SamplingCase, width: int) -> float:
    """What one step reads: the layers, the rows of the output projection that can be drawn, and the cache of all rows
    in both streams, half full on average behind the prompt."""
    config = DecoderConfig(num_layers=case.layers, d_model=case.d_model, num_heads=case.heads)
    weights = non_embedding_parameters(config) + case.image_codes * case.d_model
    length = case.image_tokens / 2 + (case.text_tokens + 2 + 3) / 2
    return width * (weights + 2 * case.rows * 2 * case.layers * length * case.d_model)


if __name__ == "__main__":
    main()
