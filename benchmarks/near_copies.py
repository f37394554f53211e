"""Near copies among millions of documents: how long finding them takes, in how much memory, how many of those planted
are found, and what is taken for a copy that is none. Each prints one JSON line.

    python benchmarks/near_copies.py --documents 10000000
    python benchmarks/near_copies.py --source folder:PICTURES
    python benchmarks/near_copies.py --photographs

The first simulates documents. Images have the spectrum of photographs (amplitudes fall with frequency). Of the
documents `--shared_caption` have one caption, `--cluster` are near copies of one image, and `--planted` are near copies
of as many others, each by one of `EDITS`. These are edits of pixels; other images are made as thumbnails. Work goes to
`--folder`, which needs 2 KB a document; parts that are there are used again. One process, one core:

    seconds, gib                 of `find_duplicates` alone: elapsed, and the peak of resident memory
    recall, recall_by_edit       share of the planted copies that are left out as copies of their original
    cluster_left                 documents of the cluster that stay, the first among them
    struck_otherwise             documents left out that are copies of nothing

The second lists the near copies among the images of a source, pair by pair, with how many pixels differ by more than 32
levels; the third counts them among 10,000 disjoint crops of the photographs of scikit-image and scikit-learn, each
enlarged to 128 x 128 pixels, and among disjoint crops of that size as they are:

    images, without_texture      those that are compared with nothing
    pairs                        that are near copies: of a source, all but equal images are listed
    left_out, share              images that would go
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import io
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

PART = 4096
PHOTOGRAPHS = (  # of scikit-image
    *("astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel"),
    *("hubble_deep_field", "ihc", "moon", "motorcycle_left", "retina", "rocket"),
)
SIDE = 96  # pixels of the images that are edited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000_000)
    parser.add_argument("--shared_caption", type=int, help="default: a tenth")
    parser.add_argument("--cluster", type=int, help="default: a hundredth")
    parser.add_argument("--planted", type=int, default=20_000)
    parser.add_argument("--folder", help="for the work; default: a temporary one")
    parser.add_argument("--source", help="instead: list the near copies of a source")
    parser.add_argument("--photographs", action="store_true", help="instead: count them among crops of photographs")
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.source:
        print(json.dumps(among_source(arguments.source)))
        return
    if arguments.photographs:
        print(json.dumps(among_photographs()))
        return
    arguments.cluster = arguments.documents // 100 if arguments.cluster is None else arguments.cluster
    if arguments.shared_caption is None:
        arguments.shared_caption = arguments.documents // 10
    with tempfile.TemporaryDirectory() as temporary:
        arguments.folder = arguments.folder or temporary
        if arguments.search:
            search(arguments)
            return
        make_parts(arguments)
        # A process of its own, on one core, so that its memory is its own.
        one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        command = [sys.executable, __file__, "--search", "--folder", arguments.folder]
        command += ["--documents", str(arguments.documents), "--cluster", str(arguments.cluster)]
        subprocess.run([*command, "--planted", str(arguments.planted)], check=True, env=os.environ | one_core)


def among_source(source: str) -> dict[str, Any]:
    import numpy as np

    from cm3leon_jax.data.sources import fit_image, open_source

    ids, images = [], []
    opened = open_source(source)
    for split in opened.splits:
        for index in range(len(opened.split(split))):
            example = opened.split(split)[index]
            side = min(example.image.shape[:2])
            ids.append(example.id)
            images.append(fit_image(example.image, side))
    found, pairs = among(images)
    equal, listed = 0, []
    for one, other in pairs.tolist():
        different = (np.abs(images[one].astype(int) - images[other]) > 32).any(axis=2).sum()
        if np.array_equal(images[one], images[other]):
            equal += 1
        else:
            listed.append((int(different), ids[one], ids[other]))
    return found | {"equal": equal, "others": [list(each) for each in sorted(listed, reverse=True)]}


def among_photographs() -> dict[str, Any]:
    import numpy as np
    import PIL.Image

    photographs = [PIL.Image.open(path).convert("RGB") for path in photograph_files()]

    def crops(window: int) -> list[Any]:
        return [
            np.asarray(image.resize((128, 128), PIL.Image.Resampling.BICUBIC, box=(x, y, x + window, y + window)))
            for image in photographs
            for y in range(0, image.height - window + 1, window)
            for x in range(0, image.width - window + 1, window)
        ]

    def count(window: int) -> int:
        return sum((image.height // window) * (image.width // window) for image in photographs)

    window = max(window for window in range(1, 129) if count(window) >= 10_000)
    return {f"crops of {each} pixels": among(crops(each))[0] for each in (window, 128)}


def photograph_files() -> list[pathlib.Path]:
    """Those that come with scikit-image and scikit-learn."""
    folders = []
    for name in ("skimage", "sklearn"):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            sys.exit(f"{name} is not installed: pip install scikit-image scikit-learn")
        folders.append(pathlib.Path(found.origin).parent)
    names = [path.name for path in (folders[0] / "data").iterdir()]
    names = sorted(name for name in names if name.partition(".")[0] in PHOTOGRAPHS)
    files = [folders[0] / "data" / name for name in names]
    return files + [folders[1] / "datasets/images" / name for name in ("china.jpg", "flower.jpg")]


def among(images: list[Any]) -> tuple[dict[str, Any], Any]:
    """-> figures, and the pairs of near copies."""
    import numpy as np

    from cm3leon_jax.data.prepare.clusters import leaders_of
    from cm3leon_jax.data.prepare.hashing import BANDS, candidates
    from cm3leon_jax.data.prepare.signatures import LEAST_CONTRAST, are_near_copies, sketches, thumbnail

    thumbnails = np.stack([thumbnail(image) for image in images])
    found = sketches(thumbnails)

    def near(pairs: Any) -> Any:
        parts = [pairs[start : start + 512] for start in range(0, len(pairs), 512)]
        return np.concatenate([np.zeros(0, bool), *(are_near_copies(*thumbnails[part.T]) for part in parts)])

    pairs = np.unique(np.concatenate([candidates(found, band) for band in range(BANDS)]), axis=0)
    pairs = pairs[near(pairs)]
    members, leaders = leaders_of(pairs, near)
    gone = int((members != leaders).sum())
    flat = int((found[:, -1] < LEAST_CONTRAST).sum())
    figures = {"images": len(images), "without_texture": flat, "pairs": len(pairs), "left_out": gone}
    return figures | {"share": gone / len(images)}, pairs


def search(arguments: argparse.Namespace) -> None:
    from cm3leon_jax.data.prepare.duplicates import find_duplicates
    from cm3leon_jax.data.prepare.workers import beam_options
    from cm3leon_jax.runtime.files import remove

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    job = job_of(arguments)
    remove(job.path("duplicates"))
    start = time.perf_counter()
    find_duplicates(job, beam_options("DirectRunner", ()))
    seconds = time.perf_counter() - start
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {"documents": arguments.documents, "seconds": round(seconds, 1), "gib": round(gib, 2)}
            | judged(job, arguments)
        )
    )


def judged(job: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """What was left out, by what was planted: the first `cluster` documents of the last parts, then the planted."""
    from cm3leon_jax.data.prepare.duplicates import left_out

    kept = {
        f"{shard}/{row}": why.kept
        for shard in range(len(job.shards))
        for row, why in left_out(job, shard).get("train", {}).items()
    }
    kept = {_number(id): _number(of) for id, of in kept.items()}
    first_planted = arguments.documents - arguments.planted
    first_of_cluster = first_planted - arguments.cluster
    found: dict[str, list[bool]] = {}
    for number in range(arguments.planted):
        found.setdefault(list(EDITS)[number % len(EDITS)], []).append(kept.get(first_planted + number) == number)
    cluster = range(first_of_cluster, first_planted)
    return {
        "recall": sum(sum(each) for each in found.values()) / max(1, arguments.planted),
        "recall_by_edit": {name: round(sum(each) / len(each), 4) for name, each in found.items()},
        "cluster_left": sum(number not in kept for number in cluster),
        "struck_otherwise": sum(number < first_of_cluster for number in kept),
    }


def _number(id: str) -> int:
    shard, row = id.split("/")
    return int(shard) * PART + int(row)


def job_of(arguments: argparse.Namespace) -> Any:
    from cm3leon_jax.data.prepare.config import PrepareConfig, Settings
    from cm3leon_jax.data.prepare.job import Job
    from cm3leon_jax.retrieval.memory_bank import MemoryBankConfig
    from cm3leon_jax.retrieval.selection import SelectionConfig

    settings = Settings(PrepareConfig(), SelectionConfig(), MemoryBankConfig())
    source = functools.partial(Source, -(-arguments.documents // PART))
    return Job(source, lambda: None, settings, os.path.join(arguments.folder, "work"))


class Source:
    """Stands for one whose examples were read already."""

    name, splits = "simulated", ("train",)

    def __init__(self, count: int):
        self._count = count

    def shards(self, examples: int) -> range:
        del examples
        return range(self._count)


def make_parts(arguments: argparse.Namespace) -> None:
    """The parts that are missing. The first `planted` documents are the originals of the last ones, the document after
    them is the original of the cluster."""
    import multiprocessing

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    job = job_of(arguments)
    todo = [number for number in range(len(job.shards)) if not job.path("parts", f"{number:05d}").exists()]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for done, _ in enumerate(pool.imap_unordered(functools.partial(make_part, arguments), todo), start=1):
            if not done % 100 or done == len(todo):
                print(f"parts: {done} of {len(todo)}", file=sys.stderr, flush=True)


def make_part(arguments: argparse.Namespace, shard: int) -> None:
    import numpy as np

    from cm3leon_jax.data.prepare.parts import Documents, Images, Labels, Part, write_parts
    from cm3leon_jax.data.prepare.signatures import sketches, thumbnail

    numbers = np.arange(shard * PART, min((shard + 1) * PART, arguments.documents))
    rng = np.random.default_rng(shard)
    thumbnails = photographs(rng, len(numbers))
    first_planted = arguments.documents - arguments.planted
    first_of_cluster = first_planted - arguments.cluster
    edits = list(EDITS.values())
    for row, number in enumerate(numbers.tolist()):
        if number <= arguments.planted:
            thumbnails[row] = thumbnail(image_of(number))
        elif number >= first_planted:
            original = number - first_planted
            thumbnails[row] = thumbnail(edits[original % len(edits)](image_of(original), np.random.default_rng(number)))
        elif number >= first_of_cluster:
            edit = edits[number % len(edits)]
            thumbnails[row] = thumbnail(edit(image_of(arguments.planted), np.random.default_rng(number)))
    keys = rng.integers(0, 2**63, (5, len(numbers))).astype(np.uint64)
    keys[2, numbers < arguments.shared_caption] = 1
    labels = Labels([f"{shard}/{row}" for row in range(len(numbers))], keys[0], keys[1], keys[2], keys[3], keys[0] < 0)
    images = Images(np.arange(len(numbers), dtype=np.int32), keys[4], sketches(thumbnails))
    nothing = np.zeros((0, 0), np.float32)
    documents = Documents([], nothing, nothing, nothing)
    write_parts(job_of(arguments), shard, {"train": Part(labels, images, thumbnails, documents, [])})


def photographs(rng: Any, count: int) -> Any:
    """Thumbnails uint8 [count, THUMBNAIL]: planes of random waves, whose amplitudes fall as one over the frequency."""
    import numpy as np

    planes = []
    for cells, level, spread, contrast in ((32, 118, 45, 50), (16, 124, 12, 9), (16, 132, 12, 9)):
        planes.append(_waves(rng, count, cells, level, spread, contrast).reshape(count, -1))
    return np.clip(np.rint(np.concatenate(planes, axis=1)), 0, 255).astype(np.uint8)


def _waves(rng: Any, count: int, cells: int, level: float, spread: float, contrast: float) -> Any:
    """float32 [count, cells, cells]"""
    import numpy as np

    waves, amplitudes = _basis(cells)
    strength = contrast * np.exp(0.4 * rng.standard_normal((count, 1, 1), np.float32))
    coefficients = rng.standard_normal((count, cells, cells), np.float32) * amplitudes * strength
    coefficients[:, 0, 0] = level + spread * rng.standard_normal(count, np.float32)
    return waves.T @ coefficients @ waves


@functools.lru_cache(maxsize=4)
def _basis(cells: int) -> tuple[Any, Any]:
    """Waves of a line, float32 [cells, cells], of mean square 1; and the amplitudes of their products [cells, cells],
    whose squares add up to 1, the mean left out."""
    import numpy as np

    at, k = (np.arange(cells) + 0.5) / cells, np.arange(cells)
    waves = np.where(k == 0, 1, np.sqrt(2))[:, None] * np.cos(np.pi * k[:, None] * at)
    frequency = np.hypot(k, k[:, None])
    amplitudes = np.divide(1, frequency**1.2, where=frequency > 0, out=np.zeros_like(frequency))
    return waves.astype(np.float32), (amplitudes / np.linalg.norm(amplitudes)).astype(np.float32)


def image_of(number: int) -> Any:
    """An image uint8 [SIDE, SIDE, 3] of the same kind."""
    import numpy as np
    import PIL.Image

    rng = np.random.default_rng([7, number])
    planes = [
        _waves(rng, 1, cells, level, spread, contrast)[0]
        for cells, level, spread, contrast in ((SIDE, 118, 45, 50), (SIDE // 2, 124, 12, 9), (SIDE // 2, 132, 12, 9))
    ]
    merged = [
        PIL.Image.fromarray(np.clip(np.rint(plane), 0, 255).astype(np.uint8)).resize((SIDE, SIDE)) for plane in planes
    ]
    return np.asarray(PIL.Image.merge("YCbCr", merged).convert("RGB"))


def _compressed(image: Any, rng: Any) -> Any:
    import numpy as np
    import PIL.Image

    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "JPEG", quality=int(rng.integers(30, 91)))
    return np.asarray(PIL.Image.open(file))


def _resized(image: Any, rng: Any) -> Any:
    import numpy as np
    import PIL.Image

    side = int(SIDE * rng.uniform(0.5, 2))
    small = PIL.Image.fromarray(image).resize((side, side), PIL.Image.Resampling(int(rng.integers(1, 6))))
    return np.asarray(small.resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC))


def _cropped(image: Any, rng: Any) -> Any:
    """Without 2% of each side, more of it at one end or the other."""
    import numpy as np
    import PIL.Image

    left, top = rng.uniform(0, 0.02 * SIDE, 2)
    box = (left, top, left + 0.98 * SIDE, top + 0.98 * SIDE)
    return np.asarray(PIL.Image.fromarray(image).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC, box=box))


def _all(image: Any, rng: Any) -> Any:
    return _compressed(_resized(_cropped(image, rng), rng), rng)


EDITS = {"compressed": _compressed, "resized": _resized, "cropped": _cropped, "all": _all}

if __name__ == "__main__":
    main()
