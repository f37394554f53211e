"""The indexes that `retrieval.py` compares, each in a process of its own (`worker.py`): ours, and those of faiss."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from vectors import K, Vectors

from cm3leon_jax.retrieval.memory_bank import MemoryBank, MemoryBankConfig
from cm3leon_jax.retrieval.memory_bank.recall import in_blocks, share_found

IMPORTED = {"ours": "scann.scann_ops.py.scann_ops_pybind", "faiss": "faiss"}
TRAINED_ON = 100_000  # vectors, in every index that is trained
_STEPS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096]
_ALONE = 50  # queries asked one by one in each step


class Searcher(Protocol):
    nbytes: int  # on disk

    def ladders(self) -> list[list[dict[str, int]]]:
        """Settings of the search, each list from the cheapest to the most thorough."""

    def set(self, setting: dict[str, int]) -> None: ...

    def search(self, queries: np.ndarray) -> np.ndarray:
        """Queries [Q, D] -> the inner products with what is found, [Q, K]."""


class Index:
    """Built, tuned to the cheapest setting that reaches the goal of recall, then asked all queries at once and some one
    by one, over and over. `settings`: those of `OurBank` or of `Faiss`."""

    def __init__(self, library: str, directory: str, goal: float, settings: dict[str, Any]):
        vectors = Vectors(pathlib.Path(directory))
        importlib.import_module(IMPORTED[library])  # what takes seconds is not part of building
        started = time.perf_counter()
        self._searcher: Searcher = {"ours": OurBank, "faiss": Faiss}[library](vectors, **settings)
        build_seconds = time.perf_counter() - started
        self._queries, worst = vectors.queries, vectors.worst
        setting = tuned(self._searcher, self._queries, worst, goal)
        self._searcher.set(setting)
        self.about: dict[str, Any] = {
            "build_seconds": round(build_seconds, 1),
            "bytes": self._searcher.nbytes,
            "setting": setting,
            "recall_at_10": round(share_found(self._searcher.search(self._queries), worst), 4),
        }

    def run(self, steps: int) -> dict[str, Any]:
        started = time.perf_counter()
        for _ in range(steps):
            self._searcher.search(self._queries)
        seconds = time.perf_counter() - started
        alone = []
        for query in self._queries[:_ALONE]:
            started = time.perf_counter()
            self._searcher.search(query[None])
            alone.append(time.perf_counter() - started)
        return {"seconds": seconds, "latency": float(np.median(alone))}


def tuned(searcher: Searcher, queries: np.ndarray, worst: np.ndarray, goal: float) -> dict[str, int]:
    """Of each ladder the first setting that reaches the goal (else the last), and of those the fastest."""
    found = []
    for ladder in searcher.ladders():
        for setting in ladder:
            searcher.set(setting)
            started = time.perf_counter()
            recall = share_found(searcher.search(queries), worst)
            if recall >= goal:
                break
        seconds = time.perf_counter() - started
        found.append((recall < goal, -recall if recall < goal else seconds, setting))
    return min(found, key=lambda each: each[:2])[2]


def steps_to(most: int) -> list[int]:
    return [step for step in _STEPS if step < most] + [most]


class OurBank:
    """A `MemoryBank` of so many `shards`, of one kind; built without measuring how thorough it must be."""

    def __init__(self, vectors: Vectors, kind: str, shards: int):
        documents = np.array(vectors.documents)
        config = MemoryBankConfig(
            kind=kind,
            recall_goal=0.0,
            training_sample=TRAINED_ON,
            documents_per_shard=-(-len(documents) // shards),
        )
        directory = vectors.directory / f"{kind}_{shards}"
        ids = np.arange(len(documents))
        self._bank = MemoryBank.build(documents, ids, directory, encoder_fingerprint="benchmark", config=config)
        self.nbytes = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())

    def ladders(self) -> list[list[dict[str, int]]]:
        config = self._bank.shards[0].shard.config
        if config.kind == "brute_force":
            return [[{}]]
        rescored = [50, 100, 200, 400, 800, 1600]
        if config.kind == "hashing":
            return [[{"rescored": count} for count in rescored]]
        leaves = steps_to(config.num_leaves)
        return [[{"leaves_searched": searched, "rescored": count} for searched in leaves] for count in rescored[:4]]

    def set(self, setting: dict[str, int]) -> None:
        for live in self._bank.shards:
            live.shard.config = dataclasses.replace(live.shard.config, **setting)  # type: ignore[arg-type]

    def search(self, queries: np.ndarray) -> np.ndarray:
        return self._bank.search(queries, K)[1]


class Faiss:
    """An index that faiss makes of a description; "{lists}" in it stands for twice √N."""

    def __init__(self, vectors: Vectors, description: str):
        import faiss

        faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
        documents = vectors.documents
        self._lists = 2 * math.isqrt(len(documents))
        description = description.format(lists=self._lists)
        self._index = faiss.index_factory(documents.shape[1], description, faiss.METRIC_INNER_PRODUCT)
        self._kind = description
        if not self._index.is_trained:
            rows = np.random.default_rng(0).permutation(len(documents))[:TRAINED_ON]
            self._index.train(documents[np.sort(rows)])
        for block in in_blocks(documents):
            self._index.add(np.ascontiguousarray(block))
        file = vectors.directory / "faiss"
        faiss.write_index(self._index, str(file))
        self.nbytes = file.stat().st_size
        file.unlink()
        self._parameters = faiss.ParameterSpace()

    def ladders(self) -> list[list[dict[str, int]]]:
        return list(self._ladders())

    def _ladders(self) -> Iterator[list[dict[str, int]]]:
        lists = steps_to(self._lists)
        if "PQ" in self._kind:
            for factor in (5, 10, 20, 40):
                yield [{"nprobe": probed, "k_factor_rf": factor} for probed in lists]
        elif "IVF" in self._kind:
            yield [{"nprobe": probed} for probed in lists]
        elif "HNSW" in self._kind:
            yield [{"efSearch": size} for size in _STEPS if size >= K]
        else:
            yield [{}]

    def set(self, setting: dict[str, int]) -> None:
        for name, value in setting.items():
            self._parameters.set_index_parameter(self._index, name, value)

    def search(self, queries: np.ndarray) -> np.ndarray:
        return self._index.search(queries, K)[0]
