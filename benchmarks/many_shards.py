"""Prepared data of ten thousand shards: random reads with few files open, and opening 83,000 shards. One line of JSON.

    python benchmarks/many_shards.py

Writes `--shards` shards of `--documents` documents, and reads documents at random in a process that may have `--limit`
files open. In turns with it, a process that keeps a reader of every shard open, as ArrayRecord's own data source does.
Then it opens a manifest of `--opened` shards (the paper's 340M documents in shards of 4,096), whose files are empty.

    documents_per_second      medians over the rounds, with the limit and without
    open_files                at the end, with the limit and without
    open_seconds, open_mib    opening `--opened` shards: elapsed, and what resident memory grows by
    open_stats                system calls that look at a file, meanwhile, by strace where it is installed
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--documents", type=int, default=64, help="of a shard")
    parser.add_argument("--limit", type=int, default=256)
    parser.add_argument("--opened", type=int, default=83_000)
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", choices=("bounded", "unbounded", "open"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(globals()[arguments.child](arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = folder
        write(pathlib.Path(folder, "data"), arguments.shards, arguments.documents)
        rounds = [{kind: child(arguments, kind) for kind in ("bounded", "unbounded")} for _ in range(arguments.rounds)]
        kinds = ("bounded", "unbounded")
        medians = {kind: statistics.median(each[kind]["documents_per_second"] for each in rounds) for kind in kinds}
        write_names(pathlib.Path(folder, "names"), arguments.opened)
        opened = child(arguments, "open")
    result = {
        "benchmark": "many_shards",
        "shards": arguments.shards,
        "documents_per_second": {kind: round(value) for kind, value in medians.items()},
        "open_files": {kind: rounds[-1][kind]["open_files"] for kind in kinds},
        "limit": arguments.limit,
    }
    print(json.dumps(result | opened))


def child(arguments: argparse.Namespace, kind: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", kind, "--folder", arguments.folder]
    for name in ("limit", "reads"):
        command += [f"--{name}", str(getattr(arguments, name))]
    trace = os.path.join(arguments.folder, "trace")
    if kind == "open" and shutil.which("strace"):
        command = ["strace", "-f", "-o", trace, "-e", "trace=%%stat", *command]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if kind == "open" and os.path.exists(trace):
        lines = pathlib.Path(trace).read_text(errors="replace").splitlines()
        found["open_stats"] = sum(".arrayrecord" in line for line in lines)
    return found


def bounded(arguments: argparse.Namespace) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (arguments.limit, arguments.limit))  # before anything asks for it
    return read(arguments)


def unbounded(arguments: argparse.Namespace) -> dict[str, Any]:
    """With every reader open beforehand."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    import functools

    from cm3leon_jax.data import array_records

    array_records._open_reader = functools.cache(array_records._open_reader.__wrapped__)
    return read(arguments)


def read(arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from cm3leon_jax.data.shards import PreparedData

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    split = PreparedData(pathlib.Path(arguments.folder, "data"), memory_limit=0).split("train")
    step = len(split) // len(split._shards)
    for number in range(0, len(split), step):  # every shard once
        split[number]
    indexes = np.random.default_rng(0).integers(0, len(split), arguments.reads).tolist()
    start = time.perf_counter()
    for index in indexes:
        split[index]
    seconds = time.perf_counter() - start
    return {"documents_per_second": len(indexes) / seconds, "open_files": len(os.listdir("/proc/self/fd"))}


def open(arguments: argparse.Namespace) -> dict[str, Any]:
    from cm3leon_jax.data.shards import PreparedData

    before = _resident()
    start = time.perf_counter()
    data = PreparedData(pathlib.Path(arguments.folder, "names"))
    seconds = time.perf_counter() - start
    assert len(data.split("train"))
    return {
        "open_seconds": round(seconds, 2),
        "open_mib": round(_resident() - before),
        "resident_mib": round(_resident()),
    }


def _resident() -> float:
    """The peak of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(folder: pathlib.Path, shards: int, documents: int) -> None:
    """Shards of equal documents, hard links to a few files: what is read is as much as if they differed."""
    from simulated import random_records

    from cm3leon_jax.data.shards import describe_shard, shard_name, write_shard
    from cm3leon_jax.vocabulary import CM3LEON

    folder.mkdir()
    write_shard(folder / "first", random_records(documents, CM3LEON))
    facts = describe_shard(folder / "first")
    entries = []
    for number in range(shards):
        name = shard_name("train", number, shards)
        os.link(folder / "first", folder / name)
        entries.append(facts | {"file": name})
    write_manifest(folder, entries)


def write_names(folder: pathlib.Path, shards: int) -> None:
    from cm3leon_jax.data.shards import shard_name

    folder.mkdir()
    entries = []
    for number in range(shards):
        name = shard_name("train", number, shards)
        (folder / name).touch()
        sha256 = f"{number:064x}"
        entries.append({"file": name, "documents": 4096, "bytes": 30_000_000 + number, "sha256": sha256})
    write_manifest(folder, entries)


def write_manifest(folder: pathlib.Path, entries: list[dict[str, Any]]) -> None:
    from cm3leon_jax.data.shards import FORMAT

    split = {"documents": sum(each["documents"] for each in entries), "shards": entries}
    (folder / "manifest.json").write_text(json.dumps({"format": FORMAT, "splits": {"train": split}}))


if __name__ == "__main__":
    main()
