"""The sampling engine: a decoder's parameters on its devices, and what is drawn from them for lists of prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np

from cm3leon_jax.documents import Document, SequenceError, positions
from cm3leon_jax.model.config import DecoderConfig
from cm3leon_jax.model.decoder import Params
from cm3leon_jax.model.partitioning import MeshConfig, Partitioning, make_mesh
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.progress import progress
from cm3leon_jax.sampling import loop
from cm3leon_jax.sampling.batches import Job, batches
from cm3leon_jax.sampling.likelihood import Question, answer_logprobs, batch_of, question_of, shape_of
from cm3leon_jax.sampling.loop import Batch
from cm3leon_jax.sampling.prompts import Prompt
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.sampling.weights import AS_COMPUTED, PrecisionConfig, sampling_config, sampling_params
from cm3leon_jax.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, eq=False)
class Generation:
    """One result: what was given and what was drawn."""

    prompt: int  # index into the list of prompts
    sample: int  # number among the samples of that prompt, from 0
    ids: np.ndarray  # int32 [length]: the whole sequence, as `documents.parse` reads it; empty where it is unfinished
    documents: list[Document]  # those asked for; of an unfinished one, codes that are missing are `prompts.HIDDEN`
    answer: list[np.ndarray]  # text ids that were drawn, of each hole (`Prompt.drawn_texts`)
    logprob: float  # nats: of the drawn tokens, under the model with the text, at temperature 1

    @property
    def image(self) -> np.ndarray:
        """Codes of the last document's image, int32 [N]."""
        return self.documents[-1].image

    @property
    def text(self) -> np.ndarray:
        """Text ids of the last document, int32 [T]."""
        return self.documents[-1].text


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """What has been drawn so far of a batch."""

    step: int
    steps: int  # of all
    generations: list[Generation]


# Is told every few steps; says which prompts (their indices) are no longer wanted.
Watch = Callable[[Unfinished], Collection[int]]


class Engine:
    """A decoder's parameters, placed and rounded once, and the compiled programs that draw from them."""

    def __init__(
        self,
        params: Params,
        config: DecoderConfig,
        vocabulary: Vocabulary,
        *,
        precision: PrecisionConfig = AS_COMPUTED,
        batch_size: int = 64,
        partitioning: Partitioning | None = None,
    ):
        """`params` are the decoder's, on host or devices, in float32. `batch_size` rows are drawn at once over all
        devices of `partitioning` (default: copies of the model on every device, the rows split over them)."""
        if config.vocab_size != vocabulary.size:
            raise UserError(
                f"the model has {config.vocab_size} vocabulary rows and the tokenizers make {vocabulary.size}; "
                "use the tokenizers that the model was trained with"
            )
        self.partitioning = partitioning or Partitioning(make_mesh(MeshConfig()))
        self.config = sampling_config(config, self.partitioning.platform)
        self.vocabulary, self.precision, self.batch_size = vocabulary, precision, batch_size
        self._params = sampling_params(params, config=self.config, precision=precision, partitioning=self.partitioning)

    def with_params(self, params: Params) -> Engine:
        """The same with other weights."""
        return Engine(
            params,
            self.config,
            self.vocabulary,
            precision=self.precision,
            batch_size=self.batch_size,
            partitioning=self.partitioning,
        )

    def draw(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingConfig | Sequence[SamplingConfig],
        *,
        samples: int | Sequence[int] = 1,
        label: str | None = None,
        bar: Any = None,
        watch: Watch | None = None,
        every: int = 32,
    ) -> list[list[Generation]]:
        """Draws results for each prompt, `samples` of each, with one sampling for all or one for each.

        A result depends on the prompt, the sample's number and the seed, not on what else is asked for. With a `label`
        a progress bar is shown; or the caller's own `bar` is moved on. `watch` is called every so many steps, from this
        thread; of prompts that it gives up nothing is returned. Raises `UserError` where a prompt and what it asks for
        are longer than the model's `max_length`.
        """
        samplings = [sampling] * len(prompts) if isinstance(sampling, SamplingConfig) else sampling
        counts = [samples] * len(prompts) if isinstance(samples, int) else samples
        for index, prompt in enumerate(prompts):
            try:
                self.check(prompt)
            except UserError as error:
                raise UserError(f"prompt {index}: {error}") from None
        streams = [
            prompt.with_documents_alone(self.vocabulary) if each.unconditional == "documents" else prompt
            for prompt, each in zip(prompts, samplings, strict=True)
        ]
        jobs = [
            Job(index, sample, prompt, each)
            for index, (prompt, each, count) in enumerate(zip(streams, samplings, counts, strict=True))
            for sample in range(count)
        ]
        own_bar = progress(label=label, total=len(jobs), unit="samples") if label else None
        bar = own_bar if bar is None else bar
        results: list[list[Generation]] = [[] for _ in prompts]
        given_up: set[int] = set()
        shards = self.partitioning.batch_shards
        for some, batch in batches(jobs, self.batch_size, shards, self.config, self.vocabulary):
            if not {job.index for job in some} <= given_up:
                for generation in self._run(some, batch, given_up, watch, every):
                    results[generation.prompt].append(generation)
            if bar is not None:
                bar.update(len(some))
        if own_bar is not None:
            own_bar.close()
        return [
            [] if index in given_up else sorted(found, key=lambda generation: generation.sample)
            for index, found in enumerate(results)
        ]

    def question(self, prompt: Prompt, candidates: Sequence[np.ndarray]) -> Question:
        """A prompt with one hole, for a text, and what may stand there, ids [T] each. Raises `UserError` as
        `likelihood.question_of` does."""
        return question_of(prompt, candidates, self.vocabulary, self.config)

    def logprobs(self, questions: Sequence[Question], *, bar: Any = None) -> list[np.ndarray]:
        """For each question the log-probability of each of its candidates in the hole: float32 [candidates], nats
        (`likelihood.answer_logprobs`). About `batch_size` candidates are read at once. `bar` is moved on by questions.
        """
        if not questions:
            return []
        shape, shards = shape_of(questions, self.config), self.partitioning.batch_shards
        groups = -(-min(len(questions), max(1, self.batch_size // shape[1])) // shards) * shards
        found: list[np.ndarray] = []
        for first in range(0, len(questions), groups):
            some = questions[first : first + groups]
            scores_GxC = answer_logprobs(
                self._params,
                self._put(batch_of(some, groups, shape, self.vocabulary, self.config)),
                config=self.config,
                dtype=self.precision.cache_dtype,
                partitioning=self.partitioning,
            )
            rows = zip(np.asarray(scores_GxC), some, strict=False)
            found += [row[: len(question.candidates)] for row, question in rows]
            if bar is not None:
                bar.update(len(some))
        return found

    def _run(
        self, jobs: list[Job], batch: Batch, given_up: set[int], watch: Watch | None, every: int
    ) -> list[Generation]:
        """Draws one batch. `given_up` grows by what `watch` says; nothing comes back once all of it is."""
        draws, rule, implementation, _ = jobs[0].program
        where: dict[str, Any] = {"config": self.config, "partitioning": self.partitioning}
        how = {"vocabulary": self.vocabulary, "draws": draws, "rule": rule, "implementation": implementation}
        steps = int(batch["steps"].max())
        placed = self._put(batch)
        state = loop.start(self._params, placed, precision=self.precision, **where)
        stops = [*range(every, steps, every), steps] if watch else [steps]
        for stop in stops:
            state = loop.advance(self._params, state, placed, stop, **where, **how)
            if watch and stop < steps:
                tokens = np.asarray(state["tokens"])
                unfinished = [self._unfinished(job, row) for job, row in zip(jobs, tokens, strict=False)]
                given_up |= set(watch(Unfinished(stop, steps, unfinished)))
                if {job.index for job in jobs} <= given_up:
                    return []
        tokens, logprob = (np.asarray(x) for x in loop.results(state, self.partitioning))
        return [self._finished(job, row, float(score)) for job, row, score in zip(jobs, tokens, logprob, strict=False)]

    def check(self, prompt: Prompt) -> None:
        """Raises `UserError` where the model does not hold the prompt and what it asks for."""
        check_length(prompt, self.vocabulary, self.config)

    def _put(self, batch: Batch) -> Any:
        """Host arrays that every process holds whole -> arrays split over the batch axes of the mesh."""
        sharding = self.partitioning.sharding("batch")
        return jax.tree.map(lambda array: jax.make_array_from_callback(array.shape, sharding, array.__getitem__), batch)

    def _finished(self, job: Job, drawn: np.ndarray, logprob: float) -> Generation:
        ids = job.prompt.complete(drawn, self.vocabulary)
        answer = job.prompt.drawn_texts(drawn, self.vocabulary)
        return Generation(job.index, job.sample, ids, job.prompt.parse(drawn, self.vocabulary), answer, logprob)

    def _unfinished(self, job: Job, drawn: np.ndarray) -> Generation:
        documents = job.prompt.parse_unfinished(drawn[: job.prompt.steps], self.vocabulary)
        answer = job.prompt.drawn_texts(drawn, self.vocabulary)
        return Generation(job.index, job.sample, np.zeros(0, np.int32), documents, answer, float("nan"))


def generate(
    params: Params,
    config: DecoderConfig,
    vocabulary: Vocabulary,
    prompts: Sequence[Prompt],
    sampling: SamplingConfig | Sequence[SamplingConfig],
    *,
    samples: int = 1,
    batch_size: int = 64,
    precision: PrecisionConfig = AS_COMPUTED,
    partitioning: Partitioning | None = None,
    label: str | None = None,
) -> list[Generation]:
    """In one call: an `Engine`, and what it draws: prompts[0]'s `samples` results first, then prompts[1]'s, …"""
    engine = Engine(params, config, vocabulary, precision=precision, batch_size=batch_size, partitioning=partitioning)
    return [one for each in engine.draw(prompts, sampling, samples=samples, label=label) for one in each]


def check_length(prompt: Prompt, vocabulary: Vocabulary, config: DecoderConfig) -> None:
    """Raises `UserError` where a model does not hold the prompt and what it asks for."""
    try:
        length = max(
            int(positions(template, vocabulary, config.position_rule)[start + prompt.steps - 1]) + 1
            for template, start in zip(prompt.templates, prompt.start, strict=True)
        )
    except SequenceError as error:
        raise UserError(str(error)) from None
    if length > config.max_length:
        raise UserError(
            f"this with what it asks for takes {length} positions and the model holds {config.max_length}; retrieve "
            "fewer documents, shorten the text or ask for less"
        )
