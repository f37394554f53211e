"""Speed of the memory bank beside faiss on the same vectors at the same recall: one line of JSON.

    python benchmarks/retrieval.py --vectors 200000
    python benchmarks/retrieval.py --vectors 1000000 --skip faiss_hnsw   # that takes long to build

Clustered vectors of length one, the 10 largest inner products, queries that are not in the index. Each index is tuned
with its own search parameters (leaves, nprobe, efSearch, …) to the cheapest setting that finds 99% of them. All live
at the same time, each in its own process, with all cores to itself when it is its turn: `--rounds` rounds of
`--seconds` each, every other round in reverse order; what is told is the median. Needs memory for about as many copies
of the vectors as there are indexes, and disk for half as many.
Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import statistics
import sys
import tempfile
from typing import Any

from vectors import K, make_vectors
from worker import Worker

from cm3leon_jax.retrieval.memory_bank import MemoryBankConfig

GOAL = 0.99  # of the 10 nearest
INDEXES: dict[str, tuple[str, dict[str, Any]]] = {
    "ours_auto": ("ours", {"kind": "auto", "shards": 1}),
    "ours_4_shards": ("ours", {"kind": "auto", "shards": 4}),
    "ours_brute_force": ("ours", {"kind": "brute_force", "shards": 1}),
    "ours_hashing": ("ours", {"kind": "hashing", "shards": 1}),
    "ours_tree": ("ours", {"kind": "tree", "shards": 1}),
    "faiss_flat": ("faiss", {"description": "Flat"}),
    "faiss_ivf_flat": ("faiss", {"description": "IVF{lists},Flat"}),
    # As ScaNN: four bits for two dimensions, and exact scores for the best.
    "faiss_ivf_pq": ("faiss", {"description": "IVF{lists},PQ256x4fs,RFlat"}),
    "faiss_hnsw": ("faiss", {"description": "HNSW32,Flat"}),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512, help="a multiple of 256")
    parser.add_argument("--queries", type=int, default=1_000, help="asked at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each index in each round")
    parser.add_argument("--skip", action="append", default=[], choices=INDEXES, help="repeatable")
    parser.add_argument("--scratch", help="a folder for the vectors and indexes; by default the system's")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    chosen = {name: index for name, index in INDEXES.items() if name not in arguments.skip}
    same = f"ours_{MemoryBankConfig().resolved(arguments.vectors).kind}"
    if "ours_auto" in chosen and same in chosen:
        del chosen[same]
        say(f"{same} is what ours_auto is at this size")
    if any(library == "faiss" for library, _ in chosen.values()) and not importlib.util.find_spec("faiss"):
        print("faiss is missing: pip install faiss-cpu", file=sys.stderr)
        sys.exit(2)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch, contextlib.ExitStack() as stack:
        say(f"making {arguments.vectors} vectors")
        make_vectors(pathlib.Path(scratch), arguments.vectors, arguments.queries, arguments.dim)
        workers = [started(name, *index, scratch, stack) for name, index in chosen.items()]
        unavailable = {worker.name: worker.unavailable for worker in workers if worker.unavailable}
        workers = [worker for worker in workers if not worker.unavailable]
        rounds = measured(workers, arguments)
    found = {worker.name: summary(worker, rounds, arguments.queries) for worker in workers}
    result = {"benchmark": "retrieval", "vectors": arguments.vectors, "dim": arguments.dim, "k": K, "goal": GOAL}
    result |= {"queries": arguments.queries, "rounds": len(rounds), "cores": len(os.sched_getaffinity(0))}
    print(json.dumps(result | {"indexes": found, "unavailable": unavailable}))


def started(name: str, library: str, settings: dict[str, Any], scratch: str, stack: contextlib.ExitStack) -> Worker:
    say(f"building and tuning {name}")
    target = {"library": library, "directory": scratch, "goal": GOAL, "settings": settings}
    # Idle threads that wait actively, as OpenMP's do, would take the cores from whose turn it is.
    worker = Worker(name, "indexes:Index", target, {"OMP_WAIT_POLICY": "PASSIVE"})
    stack.callback(worker.close)
    say(f"{name}: {worker.unavailable or worker.about}")
    return worker


def measured(workers: list[Worker], arguments: argparse.Namespace) -> list[dict[str, dict[str, float]]]:
    """Of each round: index -> seconds of all queries at once, and of one alone."""
    steps = {worker.name: max(1, round(arguments.seconds / worker.run(1)["seconds"])) for worker in workers}
    rounds = []
    for number in range(arguments.rounds):
        answers = {}
        for worker in workers if number % 2 == 0 else reversed(workers):
            answer = worker.run(steps[worker.name])
            answers[worker.name] = answer | {"seconds": answer["seconds"] / steps[worker.name]}
        rounds.append(answers)
        say(f"round {number + 1} of {arguments.rounds}")
    return rounds


def summary(worker: Worker, rounds: list[dict[str, dict[str, float]]], queries: int) -> dict[str, Any]:
    seconds, latency = (
        statistics.median(answers[worker.name][key] for answers in rounds) for key in ("seconds", "latency")
    )
    speed = {"queries_per_second": round(queries / seconds), "latency_ms": round(1000 * latency, 3)}
    return speed | {"reached": worker.about["recall_at_10"] >= GOAL} | worker.about


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
