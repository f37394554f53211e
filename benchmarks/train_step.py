"""Speed of the decoder's training step beside the same step in PyTorch and the machine's limit: one line of JSON.

    python benchmarks/train_step.py --size demo                # on a CPU: the demo's model; or d512
    python benchmarks/train_step.py --size 350m --device gpu   # on a GPU; or 760m

On a CPU all programs take turns, `--rounds` rounds of `--seconds` each, every other round in reverse order. Ratios of
speeds are medians over the rounds of each round's ratio: what disturbs the machine for a while disturbs both sides.
The peer is Hugging Face's OPT with the same weights, batch and AdamW; the losses of the first three steps must agree.
The limit is the speed of large matrix products in the same rounds, XLA's or PyTorch's, whichever is faster; FLOPs a
token are those of `model/config.py`. A program that is not ready in `--limit_seconds`, as torch.compile may not be on
few cores, is left out: `unavailable` says why, and the peer is the fastest without `peers_missing`. Progress goes to
stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
from typing import Any

from case import SIZES, Case
from machine import describe_machine
from programs import Program, limit_programs, our_programs, peer_programs
from rounds import Measured, Rounds, add_arguments, measure, missing

# What is to be reached, by size: (ours, the peer's program or "fastest", ratio of speeds).
GOALS = {
    "demo": [("ours_bfloat16", "fastest", 1.3), ("ours_float32", "torch_float32_eager", 2.5)],
    "d512": [("ours_bfloat16", "fastest", 1.0)],
}
TOLERANCES = {"float32": 1e-3, "bfloat16": 2e-2}  # of the first losses, in nats
DTYPES = tuple(TOLERANCES)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="demo", choices=SIZES)
    for name in ("layers", "d_model", "heads", "vocabulary", "rows", "length", "loss_chunk", "per_device_batch_size"):
        parser.add_argument(f"--{name}", type=int, help="instead of the size's")
    parser.add_argument("--stack", choices=("scan", "unroll"), help="instead of the size's")
    parser.add_argument("--remat", choices=("none", "dots", "full"), help="instead of the size's")
    parser.add_argument("--attention", default="auto", help="of our step")
    add_arguments(parser, rounds=9)
    parser.add_argument("--profile", default="", help="a folder for profiles of our steps; their speeds suffer")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    given = {field.name: getattr(arguments, field.name, None) for field in dataclasses.fields(Case)}
    case = dataclasses.replace(SIZES[arguments.size], **{name: x for name, x in given.items() if x is not None})
    with tempfile.TemporaryDirectory() as scratch:
        measured = measure(programs_of(case, arguments, pathlib.Path(scratch)), arguments)
    if not measured.abouts:
        sys.exit(f"nothing was measured: {measured.unavailable or 'no such program'}")
    result = {"benchmark": "train_step", "size": arguments.size, "device": arguments.device}
    result |= {"machine": describe_machine(), "case": dataclasses.asdict(case), "rounds": arguments.rounds}
    result |= summary(case, arguments.size, measured)
    print(json.dumps(result | missing(measured, arguments)))


def programs_of(case: Case, arguments: argparse.Namespace, scratch: pathlib.Path) -> dict[str, Program]:
    """All programs for the device, by name."""
    device = arguments.device
    programs = limit_programs(device, scratch) | our_programs(case, device, arguments.attention, arguments.profile)
    return programs | peer_programs(case, device, scratch)


def summary(case: Case, size: str, measured: Measured) -> dict[str, Any]:
    """What the rounds say."""
    abouts, rounds = measured.abouts, measured.rounds
    flops = next((about["flops_per_token"] for about in abouts.values() if "flops_per_token" in about), None)
    limits = {
        dtype: max(
            (answer[dtype] for answers in rounds for answer in answers.values() if dtype in answer), default=None
        )
        for dtype in DTYPES
    }
    steps = [name for name in abouts if not name.startswith("limit")]
    programs = {name: _program(case, name, abouts[name], rounds, flops, limits) for name in steps}
    peers = [name for name in steps if name.startswith("torch")]
    fastest = max(peers, key=lambda name: programs[name]["tokens_per_second"], default=None)
    ratios = {name: {peer: _ratio(name, peer, rounds) for peer in peers} for name in steps if name.startswith("ours")}
    goals = []
    for ours, peer, goal in GOALS.get(size, []):
        against = fastest if peer == "fastest" else peer
        if ours in ratios and against in ratios[ours]:
            reached = ratios[ours][against]
            goals.append({"ours": ours, "peer": against, "goal": goal, "ratio": reached, "reached": reached >= goal})
    return {
        "limit_gflops": {dtype: limit and round(limit / 1e9, 1) for dtype, limit in limits.items()},
        "programs": programs,
        "peer": fastest,
        "ratios": ratios,
        "goals": goals,
        "losses_agree": _losses_agree({name: abouts[name] for name in steps if "packed" not in name}),
    }


def _program(case, name, about, rounds, flops, limits) -> dict[str, Any]:
    """Of one program: its speed, that speed's share of the limit (on accelerators: MFU), and what it said of itself."""
    seconds = [answers[name]["seconds"] for answers in rounds]
    speeds = {"tokens_per_second": case.tokens / statistics.median(seconds)}
    speeds["tokens_per_second_best"] = case.tokens / min(seconds)
    found: dict[str, Any] = {key: round(value) for key, value in speeds.items()}
    if flops is not None:
        rate, limit = flops * speeds["tokens_per_second"], limits[about["dtype"]]
        found |= {"gflops": round(rate / 1e9, 1), "share_of_limit": limit and round(rate / limit, 3)}
    return found | about


def _ratio(ours: str, peer: str, rounds: Rounds) -> float:
    return round(statistics.median(answers[peer]["seconds"] / answers[ours]["seconds"] for answers in rounds), 3)


def _losses_agree(abouts: dict[str, dict[str, Any]]) -> bool | None:
    """Whether all programs' first losses are those of the first float32 peer (else of the first program)."""
    if len(abouts) < 2:
        return None
    reference = abouts[next((name for name in abouts if name.startswith("torch_float32")), next(iter(abouts)))]
    return all(
        abs(loss - expected) <= TOLERANCES[about["dtype"]]
        for about in abouts.values()
        for loss, expected in zip(about["losses"], reference["losses"], strict=True)
    )


if __name__ == "__main__":
    main()
