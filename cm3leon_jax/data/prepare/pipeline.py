"""A source -> prepared documents: tokenized, embedded, without duplicates, with neighbours, in shards.

Four stages, each on all workers: parts (tokens, codes, embeddings), duplicates, the memory bank over the split "train",
and shards with neighbours. Before the third the selection's thresholds are calibrated. All work is done in a hidden
folder inside the result's and moved into place at the end: a killed run continues where it stopped, and readers see the
old result or the new one. No stage holds more than some shards in memory.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from cm3leon_jax.data.prepare.bank import BANK_FOLDER, build_bank
from cm3leon_jax.data.prepare.calibrating import SIMILARITY_FILE, calibrate_similarity
from cm3leon_jax.data.prepare.config import PrepareConfig, Settings
from cm3leon_jax.data.prepare.duplicates import find_duplicates
from cm3leon_jax.data.prepare.job import Job, Models
from cm3leon_jax.data.prepare.layout import describe_sources, lay_out
from cm3leon_jax.data.prepare.making import make_parts
from cm3leon_jax.data.prepare.parts import is_made, part_sizes, read_quarantined
from cm3leon_jax.data.prepare.quarantine import QUARANTINE_FILE, check_bad_share, write_quarantine
from cm3leon_jax.data.prepare.shards import write_shards
from cm3leon_jax.data.prepare.workers import LOG_FILE, beam_options, for_each
from cm3leon_jax.data.shards import BANK_SPLIT, FORMAT, MANIFEST_FILE, PreparedData
from cm3leon_jax.data.sources import Source
from cm3leon_jax.retrieval.memory_bank import MemoryBankConfig
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, local_path, read_json, remove, write_json
from cm3leon_jax.vocabulary import Vocabulary

_WORK = ".unfinished"
_INPUTS_FILE = "inputs.json"
_ONLY_FOR_WORK = ("parts", "duplicates", "shards", "progress", "errors", SIMILARITY_FILE, LOG_FILE)


def prepare(
    open_source: Callable[[], Source],
    open_models: Callable[[], Models],
    directory: Path,
    config: PrepareConfig,
    *,
    selection: SelectionConfig | None = None,
    memory_bank: MemoryBankConfig | None = None,
    runner: str = "DirectRunner",
    runner_options: Sequence[str] = (),
) -> PreparedData:
    """Prepares all splits of a source in `directory`. Started again, it continues; when finished, it does nothing.

    What opens the source and the models is called by each worker, and must survive pickling where they are other
    processes: `runner` is Beam's, with its flags. Examples that cannot be used, and duplicates, are left out and listed
    in `quarantine.jsonl`. The same source, models and settings give the same bytes. Raises `UserError` when more than
    `config.max_bad_share` of the examples cannot be used, or when none is left to train on.
    """
    directory = local_path(directory)
    options = beam_options(runner, runner_options)
    settings = Settings(config, selection or SelectionConfig(), memory_bank or MemoryBankConfig())
    work = directory / _WORK
    job = Job(open_source, open_models, settings, os.fspath(work.absolute())).with_inputs()
    if not _is_finished(directory, job.inputs):
        _open_work(work, job.inputs)
        if not (work / MANIFEST_FILE).exists():
            _make(job, options)
        _publish(work, directory)
    return PreparedData(directory)


def _make(job: Job, options: Any) -> None:
    """Everything into the folder of the work, the manifest last."""
    _make_parts(job, options)
    bad = check_bad_share(job)
    find_duplicates(job, options)
    duplicates = write_quarantine(job.path(QUARANTINE_FILE), job, duplicates=True)
    places = lay_out(job)
    with_bank = bool(job.models.retriever.dim)
    if with_bank and not sum(place.documents for place in places[BANK_SPLIT]):
        raise UserError(
            f"{job.source.name} has no usable example in its split {BANK_SPLIT!r}, no image with a caption, which is "
            "what can be retrieved: check the source, join it with one that has them, or prepare without a retriever"
        )
    similarity = calibrate_similarity(job) if with_bank else None
    bank = build_bank(job, places[BANK_SPLIT], options) if with_bank else None
    written = write_shards(job, [place for split in places.values() for place in split], options)
    searched = _searched([written[place.file]["searched"] for place in places[BANK_SPLIT]]) if bank else {}
    models, settings = job.models, job.settings
    manifest = {
        "format": FORMAT,
        "source": job.source.name,
        "sources": describe_sources(job, places),
        "inputs": job.inputs,
        "splits": {
            name: _describe_split([written[place.file]["shard"] for place in split]) for name, split in places.items()
        },
        "quarantined": bad,
        "duplicates": sum(duplicates.values()),
        "duplicates_by_kind": duplicates,
        "fingerprints": models.fingerprints,
        "vocabulary": dataclasses.asdict(
            Vocabulary.sized(
                text_size=models.text.size,
                image_size=models.image.num_codes,
                num_sentinels=settings.prepare.num_sentinels,
                multiple_of=settings.prepare.vocabulary_multiple_of,
                num_others=settings.prepare.num_others,
            )
        ),
        "image": {"grid": list(models.image.grid), "resolution": models.image.resolution},
        "embedding_dim": models.retriever.dim,
        "similarity": dataclasses.asdict(similarity) | searched if similarity else None,
        "memory_bank": {"directory": BANK_FOLDER, "recall_at_10": bank.recall_at_10} if bank else None,
        "settings": dataclasses.asdict(settings),
    }
    write_json(job.path(MANIFEST_FILE), manifest)


def _searched(shards: list[dict[str, int]]) -> dict[str, int]:
    """How many candidates the searches of the split "train" struck, and how many documents lost all their nearest."""
    return {name: sum(shard[name] for shard in shards) for name in ("struck", "lost")}


def _make_parts(job: Job, options: Any) -> None:
    """Parts that are there already are kept."""
    sizes = [shard.size for shard in job.shards]
    missing = [number for number in range(len(sizes)) if not is_made(job, number)]
    for_each(
        job,
        make_parts,
        missing,
        options,
        label="tokens and embeddings",
        unit="examples",
        total=None if None in sizes else sum(size or 0 for size in sizes),
        done=_examples(job),
    )


def _examples(job: Job) -> int:
    """In the parts that there are."""
    made = [number for number in range(len(job.shards)) if is_made(job, number)]
    documents = sum(sum(part_sizes(job, number).values()) for number in made)
    return documents + sum(len(rows) for number in made for rows in read_quarantined(job, number).values())


def _describe_split(shards: list[dict[str, Any]]) -> dict[str, Any]:
    return {"documents": sum(shard["documents"] for shard in shards), "shards": shards}


def _is_finished(directory: pathlib.Path, inputs: str) -> bool:
    try:
        return PreparedData(directory).manifest["inputs"] == inputs
    except (UserError, KeyError):  # nothing there, or of another version: made anew
        return False


def _open_work(work: pathlib.Path, inputs: str) -> None:
    """The folder of unfinished work; what was begun with other inputs is thrown away."""
    path = work / _INPUTS_FILE
    if not path.exists() or read_json(path, what="record", make_with="cm3leon prepare") != inputs:
        remove(work)
        write_json(path, inputs)


def _publish(work: pathlib.Path, directory: pathlib.Path) -> None:
    """Moves a whole result into place, the manifest last. Killed in between, the next run moves the rest."""
    for name in _ONLY_FOR_WORK:
        remove(work / name)
    remove(directory / MANIFEST_FILE)
    new = {path.name for path in work.iterdir() if not path.name.startswith(".")}  # else: cut off by a kill
    for name in sorted(new - {MANIFEST_FILE, _INPUTS_FILE}):
        remove(directory / name)
        os.replace(work / name, directory / name)
    os.replace(work / MANIFEST_FILE, directory / MANIFEST_FILE)
    remove(work)
    named = {
        shard["file"] for split in PreparedData(directory).manifest["splits"].values() for shard in split["shards"]
    }
    for path in directory.glob("*.arrayrecord"):
        if path.name not in named:  # of an older result
            path.unlink()
