"""From a list of prompts to a list of results: batches of few shapes, split over all devices."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from cm3leon_jax.documents import PositionRule, SequenceError, positions
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params, logical_axes
from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.progress import progress
from cm3leon_jax.sampling.loop import Batch, decode
from cm3leon_jax.sampling.prompts import Prompt
from cm3leon_jax.sampling.rules import TWO_STREAMS, SamplingConfig
from cm3leon_jax.vocabulary import PAD_ID, Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class Generation:
    """One result. `image` and `text` are those of the document asked for: what was given and what was drawn."""

    prompt: int  # index into the list of prompts
    sample: int  # number among the samples of that prompt, from 0
    ids: np.ndarray  # int32 [length]: the whole sequence, as `documents.parse` reads it
    image: np.ndarray  # int32 [N] codes of the image tokenizer
    text: np.ndarray  # int32 [T] text ids
    logprob: float  # nats: of the drawn tokens, under the model with the text, at temperature 1


@dataclasses.dataclass(frozen=True)
class _Job:
    """One sample of one prompt."""

    index: int
    sample: int
    prompt: Prompt
    rule: str

    @property
    def streams(self) -> int:
        return 2 if self.rule in TWO_STREAMS else 1

    @property
    def program(self) -> tuple[str, str]:
        """Jobs that differ in this cannot be in one batch."""
        return self.prompt.draws, self.rule


def generate(
    params: Params,
    config: DecoderConfig,
    vocabulary: Vocabulary,
    prompts: Sequence[Prompt],
    sampling: SamplingConfig,
    *,
    samples: int = 1,
    batch_size: int = 64,
    partitioning: Partitioning | None = None,
    label: str | None = None,
) -> list[Generation]:
    """Draws `samples` results for each prompt: prompts[0]'s first, then prompts[1]'s, …

    `params` are the decoder's, on host or devices, in float32. `batch_size` rows are drawn at once over all devices of
    `partitioning` (default: copies of the model on every device, the rows split over them). A result depends on the
    prompt, the sample's number and the seed, not on the batch. With a `label` a progress bar is shown. Raises
    `UserError` where a prompt and what it asks for are longer than the model's `max_length`.
    """
    _check(config, vocabulary, prompts)
    if partitioning is None:
        partitioning = Partitioning(make_mesh(MeshConfig()))
    params = jax.device_put(params, partitioning.tree(logical_axes(config)))
    jobs = [
        _Job(index, sample, prompt, sampling.rule_of_sample(sample))
        for index, prompt in enumerate(prompts)
        for sample in range(samples)
    ]
    bar = progress(label=label, total=len(jobs), unit="samples") if label else None
    results: dict[tuple[int, int], Generation] = {}
    for batch_jobs, batch in _batches(jobs, batch_size, partitioning.batch_shards, config, vocabulary):
        draws, rule = batch_jobs[0].program
        tokens, logprob = decode(
            params,
            _put(batch, partitioning),
            np.uint32(sampling.seed),
            sampling.settings(),
            config=config,
            vocabulary=vocabulary,
            draws=draws,
            rule=rule,
            implementation=sampling.implementation,
            partitioning=partitioning,
        )
        for job, row, score in zip(batch_jobs, np.asarray(tokens), np.asarray(logprob), strict=False):
            results[job.index, job.sample] = _result(job, row, float(score), vocabulary)
        if bar is not None:
            bar.update(len(batch_jobs))
    if bar is not None:
        bar.close()
    return [results[job.index, job.sample] for job in jobs]


def bucket(length: int) -> int:
    """The smallest of 16, 24, 32, 48, 64, 96, 128, … that holds `length`: few shapes, at most a third padded."""
    size = 16
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size


def _check(config: DecoderConfig, vocabulary: Vocabulary, prompts: Sequence[Prompt]) -> None:
    if config.vocab_size != vocabulary.size:
        raise UserError(
            f"the model has {config.vocab_size} vocabulary rows and the tokenizers make {vocabulary.size}; "
            "use the tokenizers that the model was trained with"
        )
    for index, prompt in enumerate(prompts):
        try:
            length = max(
                int(positions(template[: start + prompt.steps], vocabulary, config.position_rule)[-1]) + 1
                for template, start in zip((prompt.conditional, prompt.unconditional), prompt.start, strict=True)
            )
        except SequenceError as error:
            raise UserError(f"prompt {index}: {error}") from None
        if length > config.max_length:
            raise UserError(
                f"prompt {index} with what it asks for takes {length} positions and the model holds "
                f"{config.max_length}; retrieve fewer documents, shorten the text or ask for less"
            )


def _batches(
    jobs: Sequence[_Job], batch_size: int, shards: int, config: DecoderConfig, vocabulary: Vocabulary
) -> Iterator[tuple[list[_Job], Batch]]:
    """Jobs in batches of one program. All batches of a program have one shape, so that it is compiled once a call."""
    ordered = sorted(jobs, key=lambda job: job.program)
    for _, group in itertools.groupby(ordered, key=lambda job: job.program):
        members = list(group)
        rows = min(batch_size, 1 << (len(members) - 1).bit_length())
        rows = -(-rows // shards) * shards
        slots = min(bucket(max(max(job.prompt.start[: job.streams]) for job in members)), config.max_length)
        steps = bucket(max(job.prompt.steps for job in members))
        for start in range(0, len(members), rows):
            some = members[start : start + rows]
            yield some, _batch(some, (rows, slots, steps), vocabulary, config.position_rule)


def _batch(jobs: Sequence[_Job], shape: tuple[int, int, int], vocabulary: Vocabulary, rule: PositionRule) -> Batch:
    """Host arrays of (rows, prompt slots, steps) for `loop.decode`; the last job is repeated up to the rows."""
    rows, slots, steps = shape
    streams = jobs[0].streams
    batch = {
        "tokens": np.full((rows, streams, slots), PAD_ID, np.int32),
        "positions": np.zeros((rows, streams, slots), np.int32),
        "lengths": np.zeros((rows, streams), np.int32),
        "next": np.zeros((rows, streams), np.int32),
        "forced": np.full((rows, streams, steps), PAD_ID, np.int32),
        "steps": np.zeros(rows, np.int32),
        "seeds": np.zeros((rows, 2), np.uint32),
    }
    for row in range(rows):
        job = jobs[min(row, len(jobs) - 1)]
        prompt = job.prompt
        templates = (prompt.conditional, prompt.unconditional)[:streams]
        for stream, (template, start) in enumerate(zip(templates, prompt.start, strict=False)):
            batch["tokens"][row, stream, :start] = template[:start]
            # No <break> is drawn, so behind the first step's token positions count tokens.
            places = positions(template[: start + 1], vocabulary, rule)
            batch["positions"][row, stream, :start], batch["next"][row, stream] = places[:-1], places[-1]
            batch["lengths"][row, stream] = start
            batch["forced"][row, stream, : prompt.steps] = template[start : start + prompt.steps]
        batch["steps"][row] = prompt.steps
        batch["seeds"][row] = prompt.seed, job.sample
    return batch


def _put(batch: Batch, partitioning: Partitioning) -> Any:
    """Host arrays that every process holds whole -> arrays split over the batch axes of the mesh."""
    sharding = partitioning.sharding("batch")
    return {
        name: jax.make_array_from_callback(array.shape, sharding, array.__getitem__) for name, array in batch.items()
    }


def _result(job: _Job, drawn: np.ndarray, logprob: float, vocabulary: Vocabulary) -> Generation:
    document = job.prompt.parse(drawn, vocabulary)
    ids = job.prompt.complete(drawn, vocabulary)
    return Generation(job.index, job.sample, ids, document.image, document.text, logprob)
