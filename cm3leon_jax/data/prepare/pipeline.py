"""A source -> prepared documents: tokenized, embedded, without duplicates, with neighbours, in shards.

Four stages: parts (tokens, codes, embeddings), the memory bank over the train split, shards with neighbours, the
manifest. All work is done in a hidden folder inside the result's and moved into place at the end: a killed run
continues where it stopped, and readers see the old result or the new one.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

from cm3leon_jax.data.prepare.config import PrepareConfig
from cm3leon_jax.data.prepare.neighbours import build_bank, write_shards
from cm3leon_jax.data.prepare.parts import Models, Part, make_part
from cm3leon_jax.data.prepare.quarantine import QUARANTINE_FILE, quarantine_rows, survey, write_quarantine
from cm3leon_jax.data.shards import BANK_SPLIT, FORMAT, MANIFEST_FILE, PreparedData, describe_shard
from cm3leon_jax.data.sources import Source
from cm3leon_jax.retrieval.memory_bank import MemoryBankConfig
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, fingerprint, read_json, remove, write_json
from cm3leon_jax.runtime.progress import progress
from cm3leon_jax.vocabulary import Vocabulary

if TYPE_CHECKING:
    from cm3leon_jax.retrieval.clip.retriever import Retriever
    from cm3leon_jax.tokenizers.image.tokenizer import ImageTokenizer
    from cm3leon_jax.tokenizers.text import TextTokenizer

BANK_DIRECTORY = "memory_bank"
_WORK = ".unfinished"
_INPUTS_FILE = "inputs.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    prepare: PrepareConfig
    selection: SelectionConfig
    memory_bank: MemoryBankConfig


def prepare(
    source: Source,
    text_tokenizer: TextTokenizer,
    image_tokenizer: ImageTokenizer,
    retriever: Retriever,
    directory: Path,
    config: PrepareConfig,
    *,
    selection: SelectionConfig | None = None,
    memory_bank: MemoryBankConfig | None = None,
) -> PreparedData:
    """Prepares all splits of `source` in `directory`. Started again, it continues; when finished, it does nothing.

    Examples that cannot be used, and exact duplicates, are left out and listed in `quarantine.jsonl`. The same source,
    models and settings give the same bytes. Raises `UserError` when more than `config.max_bad_share` of the examples
    cannot be used, or when none is left to train on.
    """
    directory = pathlib.Path(directory)
    models = Models(text_tokenizer, image_tokenizer, retriever)
    settings = Settings(config, selection or SelectionConfig(), memory_bank or MemoryBankConfig())
    inputs = _fingerprint_inputs(source, models, settings)
    if not _is_finished(directory, inputs):
        work = _open_work(directory / _WORK, inputs)
        if not (work / MANIFEST_FILE).exists():
            _make(source, models, work, settings, inputs)
        _publish(work, directory)
    return PreparedData(directory)


def _make(source: Source, models: Models, work: pathlib.Path, settings: Settings, inputs: str) -> None:
    """Everything into `work`, the manifest last."""
    parts = _make_parts(source, models, work, settings.prepare)
    found = survey(parts)
    write_quarantine(work / QUARANTINE_FILE, found.rows)
    if not sum(mask.sum() for mask in found.keep[BANK_SPLIT]):
        raise UserError(f"{source.name} has no usable example in its split {BANK_SPLIT!r}: check the source")
    encoder = models.retriever.fingerprint
    bank = build_bank(parts, found.keep, work / BANK_DIRECTORY, encoder, settings.memory_bank)
    shards = write_shards(parts, found.keep, bank, work, settings.selection)
    manifest = {
        "format": FORMAT,
        "source": source.name,
        "inputs": inputs,
        "splits": {name: _describe_split(paths) for name, paths in shards.items()},
        "quarantined": found.quarantined,
        "duplicates": found.duplicates,
        "fingerprints": models.fingerprints,
        "vocabulary": dataclasses.asdict(
            Vocabulary(
                text_size=models.text.size,
                image_size=models.image.num_codes,
                num_sentinels=settings.prepare.num_sentinels,
                multiple_of=settings.prepare.vocabulary_multiple_of,
            )
        ),
        "image": {"grid": list(models.image.grid), "resolution": models.image.resolution},
        "embedding_dim": models.retriever.dim,
        "memory_bank": {"directory": BANK_DIRECTORY, "recall_at_10": bank.recall_at_10},
        "settings": dataclasses.asdict(settings),
    }
    remove(work / "parts")
    write_json(work / MANIFEST_FILE, manifest)


def _make_parts(
    source: Source, models: Models, work: pathlib.Path, config: PrepareConfig
) -> dict[str, list[pathlib.Path]]:
    """-> the files of the parts of each split. Parts that are there already are kept."""
    splits = {name: source.split(name) for name in source.splits}
    plan = [
        (name, work / "parts" / f"{name}-{number:05d}.msgpack", range(start, min(start + step, len(split))))
        for name, split in splits.items()
        for step in [config.examples_per_shard]
        for number, start in enumerate(range(0, len(split), step))
    ]
    done = sum(len(examples) for _, path, examples in plan if path.exists())
    total = sum(len(split) for split in splits.values())
    rows: list[dict[str, str]] = []
    with progress(label="tokens and embeddings", total=total, unit="examples", start=done) as bar:
        for name, path, examples in plan:
            if not path.exists():
                # Training queries are varied, so that the neighbours are not too alike; evaluation asks as a user does.
                drop = config.query_drop if name == BANK_SPLIT else 0.0
                make_part(splits[name], examples, models, config, query_drop=drop, progress=bar).write(path)
            rows += quarantine_rows(name, Part.read(path))
            if len(rows) > config.max_bad_share * total:
                write_quarantine(work / QUARANTINE_FILE, rows)
                raise UserError(
                    f"{len(rows)} of {total} examples of {source.name} cannot be used (the first: {rows[0]['id']}: "
                    f"{rows[0]['reason']}): mend those listed in {work / QUARANTINE_FILE}, or raise the share that is "
                    "allowed (PrepareConfig.max_bad_share)"
                )
    return {name: [path for split, path, _ in plan if split == name] for name in splits}


def _describe_split(paths: list[pathlib.Path]) -> dict[str, Any]:
    shards = [describe_shard(path) for path in paths]
    return {"documents": sum(shard["documents"] for shard in shards), "shards": shards}


def _fingerprint_inputs(source: Source, models: Models, settings: Settings) -> str:
    splits = {name: [len(source.split(name)), source.split(name).fingerprint] for name in source.splits}
    return fingerprint(FORMAT, splits, models.fingerprints, dataclasses.asdict(settings))


def _is_finished(directory: pathlib.Path, inputs: str) -> bool:
    try:
        return PreparedData(directory).manifest["inputs"] == inputs
    except (UserError, KeyError):  # nothing there, or of another version: made anew
        return False


def _open_work(work: pathlib.Path, inputs: str) -> pathlib.Path:
    """The folder of unfinished work; what was begun with other inputs is thrown away."""
    path = work / _INPUTS_FILE
    if not path.exists() or read_json(path, what="record", make_with="cm3leon prepare") != inputs:
        remove(work)
        write_json(path, inputs)
    return work


def _publish(work: pathlib.Path, directory: pathlib.Path) -> None:
    """Moves a whole result into place, the manifest last. Killed in between, the next run moves the rest."""
    remove(directory / MANIFEST_FILE)
    new = {path.name for path in work.iterdir()}
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
