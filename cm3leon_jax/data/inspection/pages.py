"""The pages of `cm3leon inspect`: about a task, the documents of a prepared folder, a memory bank."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from cm3leon_jax.data.inspection.bank import chosen_ids, nearest_section, shards_section
from cm3leon_jax.data.inspection.choosing import named_documents, random_documents
from cm3leon_jax.data.inspection.documents import DocumentCards, TextReader
from cm3leon_jax.data.inspection.images import DecodedImages, ImageDecoder
from cm3leon_jax.data.inspection.left_out import left_out_section
from cm3leon_jax.data.inspection.packed import SAMPLE, packed_section
from cm3leon_jax.data.inspection.sequences import Inspection, inspect_sequences
from cm3leon_jax.data.inspection.sizes import sizes_section
from cm3leon_jax.data.objective import Objective
from cm3leon_jax.data.random_access import sample_examples
from cm3leon_jax.data.settings import StreamConfig
from cm3leon_jax.data.shards import BANK_SPLIT, MANIFEST_FILE, PreparedData
from cm3leon_jax.pages.page import Part, whole_page
from cm3leon_jax.retrieval.memory_bank import MemoryBank
from cm3leon_jax.retrieval.memory_bank.manifest import BANK_FILE
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path

_FOOTER = "Made by cm3leon inspect. The images are decoded from codes; the page needs no other file."


def is_bank_alone(directory: Path) -> bool:
    """Whether a folder is a memory bank, not prepared data. `UserError`: it is neither."""
    directory = pathlib.Path(directory)
    if (directory / MANIFEST_FILE).exists():
        return False
    if (directory / BANK_FILE).exists():
        return True
    below = [path.parent for path in sorted(directory.glob(f"*/{MANIFEST_FILE}"))]
    hint = f"use {below[0]}" if below else "name a folder that `cm3leon prepare` wrote"
    raise UserError(f"{directory} is neither prepared data nor a memory bank: {hint}")


def sequences_page(
    task: str,
    split: str,
    data: PreparedData,
    text_reader: TextReader,
    image_decoder: ImageDecoder,
    stream: StreamConfig,
    objective: Objective,
    *,
    count: int,
    seed: int,
) -> tuple[Inspection, str]:
    """`count` sequences of a registered task or mixture -> the sequences made readable, and the page."""
    sampled = sample_examples(task, split=split, count=max(count, SAMPLE), seed=seed)
    shown = [
        (name, objective.hide_in_example(example, len(example.ids) + 3 * data.vocabulary.num_sentinels).ids)
        for name, example in sampled[:count]
    ]
    inspection = inspect_sequences(shown, data.vocabulary, text_reader, image_decoder)
    packed = packed_section([example for _, example in sampled], stream, objective)
    page = whole_page(
        [Part("sequences", "Sequences", inspection.html), Part("packing", "Lengths and packing", packed)],
        title=f"Sequences of {task}",
        eyebrow="training sequences",
        introduction="What the model is trained on: documents after their retrieved ones, or instructions. What the "
        "objective hides stands at the end"
        + (": here of each sequence, in training of each row." if stream.packing == "straddle" else "."),
        facts={"folder": data.directory, "split": split, "seed": seed},
        footer=_FOOTER,
    )
    return inspection, page


def documents_page(
    data: PreparedData,
    split: str,
    text_reader: TextReader,
    image_decoder: ImageDecoder,
    *,
    ids: Sequence[str],
    count: int,
    seed: int,
    candidates: int,
    rows: int,
) -> str:
    """Documents of a split (`ids`, or `count` at random) with their neighbours and at most `candidates` of each search,
    the first `rows` that were left out, and how large the documents are. `UserError`: no such split or document."""
    images = DecodedImages(image_decoder)
    shown = named_documents(data, split, ids) if ids else random_documents(data, split, count=count, seed=seed)
    parts = [
        Part("documents", "Documents", DocumentCards(data, text_reader, images, candidates).section(shown)),
        Part("left-out", "Left out", left_out_section(data, images, rows=rows)),
        Part("sizes", "Sizes", sizes_section(data, split)),
    ]
    manifest = data.manifest
    return whole_page(
        parts,
        title=f"Documents of “{split}”",
        eyebrow="prepared data",
        introduction="What cm3leon prepare made of the source: documents, their neighbours, and what was left out.",
        facts={
            "folder": data.directory,
            "source": ", ".join(source["name"] for source in manifest["sources"]),
            **{f"in {name}": f"{len(data.split(name)):,}" for name in data.splits},
            "duplicates": f"{manifest.get('duplicates', 0):,}",
            "not usable": f"{manifest.get('quarantined', 0):,}",
        },
        footer=_FOOTER,
    )


def bank_page(
    bank: MemoryBank,
    data: PreparedData | None,
    image_decoder: ImageDecoder | None,
    *,
    ids: Sequence[str],
    count: int,
    seed: int,
) -> str:
    """A memory bank; with the prepared data that it belongs to, documents are shown with captions and, with a decoder,
    images. `ids` are then those of documents, else of the bank."""
    if data is not None and ids:
        ids = [str(shown.place) for shown in named_documents(data, BANK_SPLIT, ids)]
    chosen = chosen_ids(bank, list(ids), count=count, seed=seed)
    documents = data.split(BANK_SPLIT) if data else None
    nearest = nearest_section(bank, chosen, documents, DecodedImages(image_decoder))
    kinds = sorted({live.shard.kind for live in bank.shards})
    return whole_page(
        [Part("shards", "Shards", shards_section(bank)), Part("nearest", "Nearest documents", nearest)],
        title="Memory bank",
        eyebrow="memory bank",
        introduction="The embeddings of the documents that can be retrieved, and the index that finds the nearest.",
        facts={
            "folder": bank.directory,
            "documents": f"{bank.count:,}",
            "dimensions": bank.dim,
            "index": ", ".join(kinds),
            "recall at 10": f"{bank.recall_at_10:.3f}",
            "in memory": f"{sum(live.shard.nbytes for live in bank.shards) / 2**20:,.1f} MiB",
            "encoder": bank.encoder_fingerprint,
        },
        footer=_FOOTER,
    )
