"""Held-out batches, as a model is prompted: causal, retrieved documents in rank order (CM3Leon §3); of instructions,
answers that stand before what they are about are infilled (§4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cm3leon_jax.data.instruction_preprocessors import MaskInstruction, TextEncoder, WordInstruction
from cm3leon_jax.data.instruction_tasks import find_sources
from cm3leon_jax.data.objective import ObjectiveConfig
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
    return _packed(examples, length, batch_size, process_index, process_count)


def answer_batches(
    datas: Sequence[PreparedData],
    split: str,
    *,
    text_tokenizer: TextEncoder,
    length: int,
    batch_size: int,
    limit: int | None = None,
    position_rule: PositionRule = COUNTED,
    process_index: int = 0,
    process_count: int = 1,
) -> dict[str, list[Row]]:
    """Of each task of prepared instructions (`instruction_tasks.find_sources`) that has such a split: its first
    `limit` examples as a model is asked, answers in texts being infilled. Only answers count in the loss.

    An example that is too long for a row is left out.
    """
    found: dict[str, list[Row]] = {}
    for task in find_sources(datas):
        count = task.source.num_input_examples(split) if split in task.source.splits else 0
        vocabulary = task.vocabulary
        steps = WordInstruction(text_tokenizer, vocabulary), MaskInstruction(vocabulary, ObjectiveConfig(), True)
        examples = []
        for index in range(count if limit is None else min(limit, count)):
            example = task.source.read(split, index) | {"seed": 0, "epoch": 0, "index": index}
            for step in steps:
                example = step.step(example)
            ids = example["tokens"]
            if len(ids) - 1 <= length:
                examples.append(Example(ids, example["scored"].astype(bool), positions(ids, vocabulary, position_rule)))
        if examples:
            found[task.name] = _packed(examples, length, batch_size, process_index, process_count)
    return found


def _packed(
    examples: Iterable[Example], length: int, batch_size: int, process_index: int, process_count: int
) -> list[Row]:
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
            of_query = np.arange(len(ids)) >= len(ids) - scored
            return Example(ids, of_query, positions(ids, vocabulary, rule), len(found))
        found.pop()


def _batches_of(rows: list[Row], batch_size: int, process_index: int, process_count: int) -> Iterator[Row]:
    own = batch_size // process_count
    for start in np.arange(0, len(rows), batch_size) + process_index * own:
        yield stack(rows[start : start + own])
