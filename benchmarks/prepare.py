"""What preparing costs: documents a second and core for each stage, core hours for two sizes of data. A line of JSON.

    python benchmarks/prepare.py

Models of the paper's sizes with random weights (a VQGAN of 256 x 256 pixels, CLIP ViT-B/32), JPEG files of 512 x 384
pixels, a memory bank of `--bank` vectors. All on one core, so that the figures can be multiplied. Codes and embeddings
are what an accelerator is for; the other stages are the CPU's anyway. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import pathlib
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from typing import Any

HOURS_FOR = (10_000_000, 340_000_000)  # documents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="that are decoded")
    parser.add_argument("--encoded", type=int, default=8, help="that the models see, in each round")
    parser.add_argument("--bank", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before anything counts the cores

    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for stage, count, work in stages(pathlib.Path(folder), arguments):
            seconds = timed(work, arguments.rounds)
            rates[stage] = count / seconds
            print(f"{stage}: {rates[stage]:,.1f} documents/s", file=sys.stderr, flush=True)
    result = {
        "benchmark": "prepare",
        "documents_per_second_and_core": {stage: round(rate, 2) for stage, rate in rates.items()},
        "core_hours": {
            str(size): {stage: round(size / rate / 3600, 1) for stage, rate in rates.items()} for size in HOURS_FOR
        },
    }
    print(json.dumps(result))


def timed(work: Callable[[], Any], rounds: int) -> float:
    """The median of the seconds of some calls behind a first one."""
    work()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def stages(folder: pathlib.Path, arguments: argparse.Namespace):
    """(stage, documents of a call, the call) for each, made when it is its turn."""
    import numpy as np
    from vectors import make_vectors

    from cm3leon_jax.data.prepare.signatures import caption_key, document_digest, pixel_digest, sketches, thumbnail
    from cm3leon_jax.data.sources import fit_image, open_source
    from cm3leon_jax.retrieval.memory_bank import MemoryBank
    from cm3leon_jax.retrieval.neighbours import neighbours_of

    images = write_tar(folder / "images.tar", arguments.images)
    shard = open_source(f"webdataset:{folder / 'images.tar'}").shards(0)[0]

    def read() -> None:
        thumbnails = []
        for _, example in shard.examples():
            found = example()
            image = fit_image(found.image, 256)
            document_digest(found.pairs), caption_key(found.caption), pixel_digest(image)
            thumbnails.append(thumbnail(image))
        sketches(np.stack(thumbnails))

    yield "reading", arguments.images, read

    fitted = np.stack([fit_image(image, 256) for image in images[: arguments.encoded]])
    captions = ["a photograph of a quiet street with two cars and a tall tree, early in the morning"] * len(fitted)
    tokenizer, retriever = models(folder)
    yield "codes", len(fitted), lambda: tokenizer.encode(fitted)

    def embed() -> None:
        for drop in (0.0, 0.2):  # documents, and queries for neighbours
            retriever.embed_images(fitted, drop)
            retriever.embed_texts(captions, drop)

    yield "embeddings", len(fitted), embed

    vectors = make_vectors(folder, arguments.bank, 2048, 512)
    documents, queries = np.array(vectors.documents), vectors.queries

    def build() -> None:
        MemoryBank.build(documents, np.arange(len(documents)), folder / "bank", encoder_fingerprint="x")

    yield "memory_bank", len(documents), build
    bank = MemoryBank.load(folder / "bank")
    yield "neighbours", len(queries), lambda: neighbours_of(bank, image_queries=queries, text_queries=queries)
    yield "shards", 2048, functools.partial(write_documents, folder / "shard", 2048)


def write_tar(path: pathlib.Path, count: int) -> list:
    """Smooth random pictures as JPEG files with captions, as img2dataset writes them."""
    import numpy as np
    import PIL.Image

    rng, images = np.random.default_rng(0), []
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            coarse = PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            picture = coarse.resize((512, 384), PIL.Image.Resampling.BICUBIC)
            images.append(np.asarray(picture))
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=90)
            for suffix, data in (("jpg", file.getvalue()), ("txt", f"picture number {number}".encode())):
                member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return images


def models(folder: pathlib.Path) -> tuple[Any, Any]:
    from cm3leon_jax.retrieval.clip.config import ClipConfig
    from cm3leon_jax.retrieval.clip.encoders import init_params
    from cm3leon_jax.retrieval.clip.retriever import Retriever
    from cm3leon_jax.tokenizers.image import autoencoder
    from cm3leon_jax.tokenizers.image.config import ImageTokenizerConfig
    from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
    from cm3leon_jax.tokenizers.text import TextTokenizerConfig, train_text_tokenizer

    text = train_text_tokenizer(
        (f"a photograph of {number} cars and a tall tree" for number in range(200)),
        TextTokenizerConfig(size=300),
        folder / "text",
    )
    image = ImageTokenizerConfig(
        resolution=256, channels=128, channel_multipliers=(1, 1, 2, 4), attention_resolutions=(32,), num_codes=8192
    )
    clip = ClipConfig(vocab_size=text.size)
    return ImageTokenizer(image, autoencoder.init_params(image, 0)), Retriever(clip, init_params(clip, 0), text)


def write_documents(path: pathlib.Path, count: int) -> None:
    from simulated import random_records

    from cm3leon_jax.data.shards import describe_shard, write_shard
    from cm3leon_jax.vocabulary import CM3LEON

    write_shard(path, random_records(count, CM3LEON))
    describe_shard(path)


if __name__ == "__main__":
    main()
