"""Prepared documents on disk: random-access ArrayRecord shards and a manifest that names every one of them.

Neighbours are places in the split "train" and are looked up, not copied: a quarter of the bytes.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import msgpack
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from cm3leon_jax.data.array_records import OPTIONS, Damaged, locate, read_record, require_readable
from cm3leon_jax.data.records import PreparedDocument, decode_document
from cm3leon_jax.retrieval.selection import SelectionConfig
from cm3leon_jax.retrieval.similarity import Similarity
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, fingerprint, local_path, read_json, sha256_of_file, written_aside
from cm3leon_jax.vocabulary import Vocabulary

FORMAT = 2
MANIFEST_FILE = "manifest.json"
BANK_SPLIT = "train"  # the split that the memory bank holds
MAKE_WITH = "cm3leon prepare"
# One record a chunk: reading one record decompresses nothing else.
_WRITER_OPTIONS = "group_size:1,zstd"


def shard_name(split: str, index: int, count: int) -> str:
    return f"{split}-{index:05d}-of-{count:05d}.arrayrecord"


def write_shard(path: Path, records: Iterable[bytes]) -> None:
    """Writes a shard, whole or not at all. Equal records give equal bytes."""
    with written_aside(path) as aside:
        writer = ArrayRecordWriter(str(aside), _WRITER_OPTIONS)
        for record in records:
            writer.write(record)
        writer.close()


def describe_shard(path: Path) -> dict[str, Any]:
    """What the manifest says about a shard."""
    path = pathlib.Path(path)
    return {
        "file": path.name,
        "documents": ArrayRecordReader(str(path), OPTIONS).num_records(),
        "bytes": path.stat().st_size,
        "sha256": sha256_of_file(path),
    }


class PreparedData:
    """A folder written by `cm3leon prepare`. Opening it reads the manifest and the names of the files beside it; the
    size of a shard is checked when it is first read.

    A split smaller on disk than `memory_limit` bytes keeps its decoded documents in memory once they were read.
    """

    def __init__(self, directory: Path, *, memory_limit: int = 256 * 2**20):
        self.directory = local_path(directory)
        self.manifest = _read_manifest(self.directory / MANIFEST_FILE)
        files = frozenset(os.listdir(self.directory))
        try:
            self._splits = {
                name: PreparedSplit(self.directory, name, entry["shards"], files, memory_limit)
                for name, entry in self.manifest["splits"].items()
            }
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"the manifest in {directory} is not complete: run `{MAKE_WITH}` again") from None

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(**self.manifest["vocabulary"])

    @property
    def fingerprint(self) -> str:
        """Names the data itself: every shard of it with its checksum."""
        return fingerprint(self.manifest)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._splits)

    @property
    def selection(self) -> SelectionConfig:
        """The rules by which documents were retrieved for those of training."""
        try:
            selection = SelectionConfig(**self.manifest["settings"]["selection"])
        except TypeError:
            raise UserError(f"{self.directory} was prepared by another version: run `{MAKE_WITH}` again") from None
        if not (found := self.manifest.get("similarity")):  # prepared before there was such: one number for all
            return dataclasses.replace(selection, text_threshold=selection.threshold)
        return Similarity(found["threshold"], found["text_threshold"]).settle(selection)

    def ranges(self, split: str) -> list[tuple[range, float | None]]:
        """The documents of a split by the source that they are of, and the weight that each source was given."""
        found = []
        for source in self.manifest["sources"]:
            first, stop = source["splits"].get(split, (0, 0))
            found.append((range(first, stop), source["weight"]))
        return found

    @property
    def memory_bank_directory(self) -> pathlib.Path:
        """The memory bank over the split "train", whose ids are the places in it. `UserError` where there is none."""
        if self.manifest["memory_bank"] is None:
            raise UserError(f"{self.directory} was prepared without a retriever and has no memory bank")
        return self.directory / self.manifest["memory_bank"]["directory"]

    def split(self, name: str) -> PreparedSplit:
        if name not in self._splits:
            raise UserError(f"{self.directory} has no split {name!r}; it has {', '.join(self._splits)}")
        return self._splits[name]

    def check(self, *, text: str | None = None, image: str | None = None, retriever: str | None = None) -> None:
        """`UserError` unless the data was made with the models of these fingerprints (those that are given)."""
        names = {"text": "text tokenizer", "image": "image tokenizer", "retriever": "retriever"}
        for key, given in {"text": text, "image": image, "retriever": retriever}.items():
            made_with = self.manifest["fingerprints"][key]
            if given is not None and given != made_with:
                raise UserError(
                    f"{self.directory} was prepared with another {names[key]} ({made_with}, not {given}): "
                    f"run `{MAKE_WITH}` again or name the {names[key]} that it was prepared with"
                )

    def verify(self) -> None:
        """Reads every shard and compares its checksum; `UserError` naming the first that differs."""
        for split in self._splits.values():
            split.verify()


class PreparedSplit:
    """Random access to the documents of one split; may be read from several threads."""

    def __init__(
        self, directory: pathlib.Path, name: str, shards: list[dict[str, Any]], files: frozenset[str], memory_limit: int
    ):
        """`files`: the names of those in `directory`. `UserError` where a shard is not among them."""
        self.name = name
        self._directory, self._shards = os.fspath(directory), shards
        self._ends = list(itertools.accumulate(shard["documents"] for shard in shards))
        self._has_its_size = bytearray(len(shards))  # of each shard, 1 where that was looked at
        for number, shard in enumerate(shards):
            if shard["file"] not in files:
                raise _damaged(self._path(number), "it is missing")
        keep = sum(shard["bytes"] for shard in shards) <= memory_limit
        self._kept: list[PreparedDocument | None] | None = [None] * len(self) if keep else None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> PreparedDocument:
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)} in split {self.name!r}")
        if self._kept is None:
            return self._read(index)
        document = self._kept[index]
        if document is None:  # two threads may both read it: the documents are equal
            document = self._kept[index] = self._read(index)
        return document

    def verify(self) -> None:
        for number, shard in enumerate(self._shards):
            if sha256_of_file(self._path(number)) != shard["sha256"]:
                raise _damaged(self._path(number), "its checksum is not the manifest's")

    def _read(self, index: int) -> PreparedDocument:
        number, offset = locate(self._ends, index)
        path = self._path(number)
        try:
            if not self._has_its_size[number]:
                self._check_size(number)
            return decode_document(read_record(path, int(offset), self._shards[number]["sha256"]))
        except (Damaged, ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
            raise _damaged(path, " ".join(str(error).split())) from None

    def _check_size(self, number: int) -> None:
        require_readable(self._path(number))
        found, expected = os.path.getsize(self._path(number)), self._shards[number]["bytes"]
        if found != expected:
            raise Damaged(f"it has {found} bytes, not {expected}")
        self._has_its_size[number] = True

    def _path(self, number: int) -> str:
        return os.path.join(self._directory, self._shards[number]["file"])


def _read_manifest(path: pathlib.Path) -> dict[str, Any]:
    manifest = read_json(path, what="manifest of prepared data", make_with=MAKE_WITH)
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise UserError(f"{path} has format {found!r} where this version reads {FORMAT}: run `{MAKE_WITH}` again")
    return manifest


def _damaged(path: str, how: str) -> UserError:
    return UserError(f"shard {path} is damaged ({how}): copy it again or run `{MAKE_WITH}` again")
