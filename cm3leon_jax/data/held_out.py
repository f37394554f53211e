"""Held-out batches: causal, unmasked, retrieved documents in rank order, as a model is prompted (CM3Leon §3)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cm3leon_jax.data.packing import Example, Row, pack_whole, row_of, stack
from cm3leon_jax.data.preprocessors import as_document
from cm3leon_jax.data.records import PreparedDocument
from cm3leon_jax.data.shards import BANK_SPLIT, PreparedData, PreparedSplit
from cm3leon_jax.documents import COUNTED, PositionRule, assemble, positions
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary

_LOOKAHEAD = 32  # examples held to fill rows well


def evaluation_batches(
    data: PreparedData,
    split: str,
    *,
    retrieved: int,
    length: int,
    batch_size: int,
    limit: int | None = None,
    position_rule: PositionRule = COUNTED,
    process_index: int = 0,
    process_count: int = 1,
) -> list[Row]:
    """The documents of a split (its first `limit`), each behind up to `retrieved` documents found by its text, best
    first, packed whole into batches [batch_size / process_count, length] of this process.

    Only the query document counts in the loss (weights), so that losses with 0, 1 and 2 retrieved documents are of the
    same tokens. Retrieved documents that leave a row no room for the query are left out, the last first. The last batch
    is filled up with empty rows. Raises `UserError`.
    """
    if batch_size % process_count:
        raise UserError(f"{batch_size} rows do not divide among {process_count} processes; change batch_size")
    documents = data.split(split)
    count = len(documents) if limit is None else min(limit, len(documents))
    if not count:
        raise UserError(f"split {split!r} of {data.directory} has no documents to evaluate on; prepare more data")
    bank, vocabulary = data.split(BANK_SPLIT), data.vocabulary
    examples = (
        _example(documents[index], bank, vocabulary, retrieved, length, position_rule) for index in range(count)
    )
    rows = list(pack_whole(examples, length, _LOOKAHEAD))
    rows += [row_of([], length)] * (-len(rows) % batch_size)
    return list(_batches_of(rows, batch_size, process_index, process_count))


def _example(
    document: PreparedDocument,
    bank: PreparedSplit,
    vocabulary: Vocabulary,
    retrieved: int,
    length: int,
    rule: PositionRule,
) -> Example:
    query = as_document(document)
    found = [as_document(bank[int(place)]) for place in document.neighbours_by_text[:retrieved]]
    while True:
        ids = assemble([*found, query], vocabulary)
        if len(ids) - 1 <= length or not found:
            scored = len(query.text) + len(query.image) + 2  # with <break> between and <eos> behind
            return Example(ids, len(ids) - scored, positions(ids, vocabulary, rule), len(found))
        found.pop()


def _batches_of(rows: list[Row], batch_size: int, process_index: int, process_count: int) -> Iterator[Row]:
    own = batch_size // process_count
    for start in np.arange(0, len(rows), batch_size) + process_index * own:
        yield stack(rows[start : start + own])
