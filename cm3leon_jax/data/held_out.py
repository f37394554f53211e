"""Held-out batches, as a model is prompted: causal, retrieved documents in rank order (CM3Leon §3); of instructions,
answers that stand before what they are about are infilled (§4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from cm3leon_jax.data.instruction_preprocessors import TextEncoder, WordInstruction
from cm3leon_jax.data.instruction_tasks import find_sources
from cm3leon_jax.data.objective import Objective
from cm3leon_jax.data.packing import Row, ScoredExample, example_positions, hide_in_example, pack_whole, row_of, stack
from cm3leon_jax.data.preprocessors import as_document, example_of
from cm3leon_jax.data.records import PreparedDocument
from cm3leon_jax.data.shards import BANK_SPLIT, PreparedData, PreparedSplit
from cm3leon_jax.documents import COUNTED, PositionRule, assemble
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.vocabulary import Vocabulary

_LOOKAHEAD = 32  # examples held to fill rows well


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batching:
    """How held-out examples become batches: packed whole into rows of `length` tokens, `batch_size` rows at once, of
    which each process has its share. `limit`: of how many examples of a split, the first ones."""

    length: int
    batch_size: int
    limit: int | None = None
    position_rule: PositionRule = COUNTED
    process_index: int = 0
    process_count: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % self.process_count:
            raise UserError(
                f"{self.batch_size} rows do not divide among {self.process_count} processes; change batch_size"
            )

    def count(self, examples: int) -> int:
        """How many of so many examples are taken."""
        return examples if self.limit is None else min(self.limit, examples)

    def batches(self, examples: Iterable[ScoredExample]) -> list[Row]:
        """Batches [batch_size / process_count, length] of this process; the last is filled up with empty rows."""
        rows = list(pack_whole(examples, self.length, _LOOKAHEAD))
        rows += [row_of([], self.length)] * (-len(rows) % self.batch_size)
        own = self.batch_size // self.process_count
        firsts = range(self.process_index * own, len(rows), self.batch_size)
        return [stack(rows[first : first + own]) for first in firsts]


def evaluation_batches(data: PreparedData, split: str, batching: Batching, *, retrieved: int) -> list[Row]:
    """The documents of a split, each behind up to `retrieved` documents found by its text, best first.

    Only the query document counts in the loss (weights), so that losses with 0, 1 and 2 retrieved documents are of the
    same tokens. Retrieved documents that leave a row no room for the query are left out, the last first. Raises
    `UserError`.
    """
    documents = data.split(split)
    count = batching.count(len(documents))
    if not count:
        raise UserError(f"split {split!r} of {data.directory} has no documents to evaluate on; prepare more data")
    bank, vocabulary = data.split(BANK_SPLIT), data.vocabulary
    return batching.batches(_example(documents[index], bank, vocabulary, retrieved, batching) for index in range(count))


def answer_batches(
    datas: Sequence[PreparedData], split: str, batching: Batching, *, text_tokenizer: TextEncoder
) -> dict[str, list[Row]]:
    """Of each task of prepared instructions (`instruction_tasks.find_sources`) that has such a split: its examples as a
    model is asked, answers in texts being infilled. Only answers count in the loss.

    An example that is too long for a row is left out. `UserError` where all of a task are.
    """
    found: dict[str, list[ScoredExample]] = {}
    for task in find_sources(datas, split):
        vocabulary = task.vocabulary
        wording, objective = WordInstruction(text_tokenizer, vocabulary), Objective(vocabulary, answers_alone=True)
        examples = found.setdefault(task.name, [])
        for index in range(batching.count(task.examples)):
            features = task.source.read(split, index) | {"seed": 0, "epoch": 0, "index": index}
            example = example_of(wording.step(features))
            if objective.longest(example) <= batching.length + 1:
                examples.append(hide_in_example(example, batching.length, objective, batching.position_rule))
        if not examples:
            raise UserError(
                f"no held-out example of {task.name} fits into a row of {batching.length} tokens; "
                "raise StreamConfig.length"
            )
    return {name: batching.batches(examples) for name, examples in found.items()}


def _example(
    document: PreparedDocument,
    bank: PreparedSplit,
    vocabulary: Vocabulary,
    retrieved: int,
    batching: Batching,
) -> ScoredExample:
    query = as_document(document)
    found = [as_document(bank[int(place)]) for place in document.neighbours_by_text[:retrieved]]
    while True:
        ids = assemble([*found, query], vocabulary)
        if len(ids) - 1 <= batching.length or not found:
            scored = len(query.text) + len(query.image) + 2  # with <break> between and <eos> behind
            of_query = np.arange(len(ids)) >= len(ids) - scored
            places = example_positions(ids, vocabulary, batching.position_rule)
            return ScoredExample(ids, of_query, places, len(found))
        found.pop()
