"""From a list of prompts to batches of few shapes: what the compiled loop reads, as host arrays."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from cm3leon_jax.documents import PositionRule, positions
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.sampling.loop import Batch
from cm3leon_jax.sampling.prompts import IMAGE, Prompt
from cm3leon_jax.sampling.rules import SamplingConfig, streams_read
from cm3leon_jax.vocabulary import PAD_ID, Vocabulary

WORTH_SHARING = 48  # tokens at the beginning of rows: below this, another pass over fewer keys gains nothing


@dataclasses.dataclass(frozen=True)
class Job:
    """One sample of one prompt."""

    index: int  # of the prompt
    sample: int
    prompt: Prompt
    sampling: SamplingConfig

    @property
    def rule(self) -> str:
        return self.sampling.rule_of_sample(self.sample)

    @property
    def streams(self) -> tuple[int, ...]:
        """The prompt's streams that its rule reads."""
        return streams_read(self.rule, len(self.prompt.templates))

    @property
    def program(self) -> tuple[str, str, str, int]:
        """Jobs that differ in this cannot be in one batch."""
        return self.prompt.draws, self.rule, self.sampling.implementation, len(self.streams)

    @property
    def own_starts(self) -> list[int]:
        """Length of what is read before the first draw in each stream."""
        return [self.prompt.start[stream] for stream in self.streams]


@dataclasses.dataclass(frozen=True)
class Shape:
    """Of a batch: jobs of one program have one, so that it is compiled once a call."""

    rows: int
    alike: int  # rows of a group, which share their beginning; 0: nothing is shared
    shared: int  # slots of the shared beginning
    slots: int  # of the prompt, or what is left of it
    steps: int


def batches(
    jobs: Sequence[Job], batch_size: int, shards: int, config: DecoderConfig, vocabulary: Vocabulary
) -> Iterator[tuple[list[Job], Batch]]:
    """Jobs in batches of at most `batch_size` rows, a multiple of `shards`, with the arrays of each."""
    share = {job: _shared_length(job) for job in jobs}

    def program(job: Job) -> tuple:
        return *job.program, share[job] >= WORTH_SHARING

    for _, group in itertools.groupby(sorted(jobs, key=lambda job: (*program(job), job.index)), key=program):
        members = list(group)
        shape = _shape(members, share, batch_size, shards, config)
        for first in range(0, len(members), shape.rows):
            some = members[first : first + shape.rows]
            yield some, _batch(some, shape, share, vocabulary, config)


def bucket(length: int) -> int:
    """The smallest of 16, 24, 32, 48, 64, 96, 128, … that holds `length`: few shapes, at most a third padded."""
    size = 16
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size


def _shared_length(job: Job) -> int:
    """Tokens that all streams of the job's prompt begin with, but for one that each has for itself."""
    most = min(job.own_starts) - 1
    first, *others = (job.prompt.templates[stream][:most] for stream in job.streams)
    differs = [np.flatnonzero(first != other) for other in others]
    return min((int(places[0]) for places in differs if len(places)), default=most)


def _shape(members: Sequence[Job], share: dict[Job, int], batch_size: int, shards: int, config: DecoderConfig) -> Shape:
    rows = min(batch_size, 1 << (len(members) - 1).bit_length())
    rows = -(-rows // shards) * shards
    alike = _rows_alike(members, rows, shards) if share[members[0]] >= WORTH_SHARING else 0
    if alike * len(members[0].streams) < 2:  # nobody to share with
        alike = 0
    shared = max(share[job] for job in members) if alike else 0
    own = max(max(job.own_starts) - (share[job] if alike else 0) for job in members)
    steps = bucket(max(job.prompt.steps for job in members))
    return Shape(rows, alike, bucket(shared) if alike else 0, min(bucket(own), config.max_length), steps)


def _rows_alike(members: Sequence[Job], rows: int, shards: int) -> int:
    """The largest power of two that divides the number of samples of every prompt, and leaves each device a group."""
    samples = collections.Counter(job.index for job in members).values()
    alike = 1
    while all(count % (2 * alike) == 0 for count in samples) and rows % (2 * alike * shards) == 0:
        alike *= 2
    return alike


def _batch(
    jobs: Sequence[Job], shape: Shape, share: dict[Job, int], vocabulary: Vocabulary, config: DecoderConfig
) -> Batch:
    """Host arrays for `loop.start`; the last job is repeated up to the rows."""
    streams = len(jobs[0].streams)
    rows, slots, steps = shape.rows, shape.slots, shape.steps
    batch: Batch = {
        "tokens": np.full((rows, streams, slots), PAD_ID, np.int32),
        "positions": np.zeros((rows, streams, slots), np.int32),
        "lengths": np.zeros((rows, streams), np.int32),
        "next": np.zeros((rows, streams), np.int32),
        "template": np.full((rows, streams, steps), PAD_ID, np.int32),
        "steps": np.zeros(rows, np.int32),
        "seeds": np.zeros((rows, 3), np.uint32),
        "settings": {name: np.zeros((rows, 1), np.float32) for name in jobs[0].sampling.settings()},
    }
    if jobs[0].prompt.draws != IMAGE:
        batch |= {"text_ends": np.zeros((rows, steps), np.int32), "anchors": np.full((rows, steps), -1, np.int32)}
    if shape.alike:
        groups = rows // shape.alike
        batch |= {
            "shared": np.full((groups, shape.shared), PAD_ID, np.int32),
            "shared_positions": np.zeros((groups, shape.shared), np.int32),
            "shared_lengths": np.zeros(groups, np.int32),
        }
    for row in range(rows):
        job = jobs[min(row, len(jobs) - 1)]
        _fill_row(batch, row, job, share[job] if shape.alike else 0, vocabulary, config.position_rule)
        if shape.alike:
            group, length = row // shape.alike, share[job]
            template = job.prompt.conditional
            batch["shared"][group, :length] = template[:length]
            batch["shared_positions"][group, :length] = positions(template, vocabulary, config.position_rule)[:length]
            batch["shared_lengths"][group] = length
    return batch


def _fill_row(batch: Batch, row: int, job: Job, shared: int, vocabulary: Vocabulary, rule: PositionRule) -> None:
    prompt = job.prompt
    for place, stream in enumerate(job.streams):
        template, start = prompt.templates[stream], prompt.start[stream]
        where, own = positions(template, vocabulary, rule), start - shared
        batch["tokens"][row, place, :own] = template[shared:start]
        batch["positions"][row, place, :own], batch["next"][row, place] = where[shared:start], where[start]
        batch["lengths"][row, place] = own
        batch["template"][row, place, : prompt.steps] = template[start : start + prompt.steps]
    batch["steps"][row] = prompt.steps
    batch["seeds"][row] = job.sampling.seed, prompt.seed, job.sample
    for name, value in job.sampling.settings().items():
        batch["settings"][name][row] = value
    if "text_ends" in batch:
        batch["text_ends"][row, : prompt.steps] = prompt.text_ends
        if rule.query_at:
            where = positions(prompt.conditional, vocabulary, rule)[prompt.start[0] :][: prompt.steps]
            batch["anchors"][row, : prompt.steps][where == rule.query_at] = rule.query_at
