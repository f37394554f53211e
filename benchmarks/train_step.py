"""Speed of the decoder's training step beside the same step in PyTorch and the machine's limit: one line of JSON.

    python benchmarks/train_step.py --size demo                # on a CPU: the demo's model; or d512
    python benchmarks/train_step.py --size 350m --device gpu   # on a GPU; or 760m

On a CPU all programs take turns, `--rounds` rounds of `--seconds` each, every other round in reverse order. Ratios of
speeds are medians over the rounds of each round's ratio: what disturbs the machine for a while disturbs both sides.
The peer is Hugging Face's OPT with the same weights, batch and AdamW; the losses of the first three steps must agree.
The limit is the speed of large matrix products in the same rounds, XLA's or PyTorch's, whichever is faster; FLOPs a
token are those of `model/config.py`. Progress goes to stderr.
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

from case import SIZES, Case
from programs import Program, limit_programs, our_programs, peer_programs
from worker import Worker

# What is to be reached, by size: (ours, the peer's program or "fastest", ratio of speeds).
GOALS = {
    "demo": [("ours_bfloat16", "fastest", 1.3), ("ours_float32", "torch_float32_eager", 2.5)],
    "d512": [("ours_bfloat16", "fastest", 1.0)],
}
TOLERANCES = {"float32": 1e-3, "bfloat16": 2e-2}  # of the first losses, in nats
DTYPES = tuple(TOLERANCES)

Rounds = list[dict[str, dict[str, float]]]  # program -> what it measured


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="demo", choices=SIZES)
    for name in ("layers", "d_model", "heads", "vocabulary", "rows", "length", "loss_chunk", "per_device_batch_size"):
        parser.add_argument(f"--{name}", type=int, help="instead of the size's")
    parser.add_argument("--stack", choices=("scan", "unroll"), help="instead of the size's")
    parser.add_argument("--remat", choices=("none", "dots", "full"), help="instead of the size's")
    parser.add_argument("--attention", default="auto", help="of our step")
    parser.add_argument("--device", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument("--programs", default="", help="only those whose names begin with one of these: a,b,c")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each program in each round")
    parser.add_argument("--profile", default="", help="a folder for profiles of our steps; their speeds suffer")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    given = {field.name: getattr(arguments, field.name, None) for field in dataclasses.fields(Case)}
    case = dataclasses.replace(SIZES[arguments.size], **{name: x for name, x in given.items() if x is not None})
    abouts: dict[str, dict[str, Any]] = {}
    rounds: Rounds = [{} for _ in range(arguments.rounds)]
    with tempfile.TemporaryDirectory() as scratch:
        for group in groups(case, arguments, pathlib.Path(scratch)):
            with contextlib.ExitStack() as stack:
                workers = [started(name, program, stack) for name, program in group.items()]
                abouts |= {worker.name: worker.about for worker in workers}
                measure([worker for worker in workers if not worker.unavailable], rounds, arguments.seconds)
    unavailable = {name: about["unavailable"] for name, about in abouts.items() if "unavailable" in about}
    measured = {name: about for name, about in abouts.items() if name not in unavailable}
    if not measured:
        sys.exit(f"nothing was measured: {unavailable or 'no such program'}")
    result = {"benchmark": "train_step", "size": arguments.size, "device": arguments.device}
    result |= {"case": dataclasses.asdict(case), "rounds": len(rounds)}
    result |= summary(case, arguments.size, measured, rounds)
    print(json.dumps(result | {"unavailable": unavailable}))


def groups(case: Case, arguments: argparse.Namespace, scratch: pathlib.Path) -> list[dict[str, Program]]:
    """The programs asked for, by name; those of one group live at the same time.

    On a CPU all do, and take turns. Of a GPU's memory each needs most, and nobody else disturbs it: one after another.
    """
    device = arguments.device
    programs = limit_programs(device, scratch) | our_programs(case, device, arguments.attention, arguments.profile)
    programs |= peer_programs(case, device, scratch)
    wanted = tuple(arguments.programs.split(","))
    programs = {name: program for name, program in programs.items() if name.startswith(wanted)}
    return [programs] if device == "cpu" else [{name: program} for name, program in programs.items()]


def started(name: str, program: Program, stack: contextlib.ExitStack) -> Worker:
    say(f"starting {name}")
    worker = program.start(name)
    stack.callback(worker.close)
    if worker.unavailable:
        say(f"{name}: {worker.unavailable}")
    return worker


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(workers: list[Worker], rounds: Rounds, seconds: float) -> None:
    """Adds each worker's answers, with the seconds of one step, to the rounds."""
    if not workers:
        return
    steps = {}
    for worker in workers:
        tried = worker.run(2)
        steps[worker.name] = max(1, round(2 * seconds / tried["seconds"])) if "seconds" in tried else 1
    for number, answers in enumerate(rounds):
        for worker in workers if number % 2 == 0 else reversed(workers):
            answer = worker.run(steps[worker.name])
            if "seconds" in answer:
                answer["seconds"] /= steps[worker.name]
            answers[worker.name] = answer
        say(f"round {number + 1} of {len(rounds)}: {', '.join(worker.name for worker in workers)}")


def summary(case: Case, size: str, abouts: dict[str, dict[str, Any]], rounds: Rounds) -> dict[str, Any]:
    """What the rounds say."""
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
        "losses_agree": _losses_agree({name: abouts[name]["losses"] for name in steps if "packed" not in name}),
    }


def _program(case, name, about, rounds, flops, limits) -> dict[str, Any]:
    """Of one program: its speed, that speed's share of the limit (on accelerators: MFU), and what it said of itself."""
    seconds = [answers[name]["seconds"] for answers in rounds]
    speeds = {"tokens_per_second": case.tokens / statistics.median(seconds)}
    speeds["tokens_per_second_best"] = case.tokens / min(seconds)
    found: dict[str, Any] = {key: round(value) for key, value in speeds.items()}
    if flops is not None:
        rate, limit = flops * speeds["tokens_per_second"], limits[_dtype(name)]
        found |= {"gflops": round(rate / 1e9, 1), "share_of_limit": limit and round(rate / limit, 3)}
    return found | about


def _dtype(name: str) -> str:
    return "float32" if "float32" in name else "bfloat16"


def _ratio(ours: str, peer: str, rounds: Rounds) -> float:
    return round(statistics.median(answers[peer]["seconds"] / answers[ours]["seconds"] for answers in rounds), 3)


def _losses_agree(losses: dict[str, list[float]]) -> bool | None:
    """Whether all programs' first losses are those of the first float32 peer (else of the first program)."""
    if len(losses) < 2:
        return None
    reference = losses[next((name for name in losses if name.startswith("torch_float32")), next(iter(losses)))]
    return all(
        abs(loss - expected) <= TOLERANCES[_dtype(name)]
        for name, found in losses.items()
        for loss, expected in zip(found, reference, strict=True)
    )


if __name__ == "__main__":
    main()
