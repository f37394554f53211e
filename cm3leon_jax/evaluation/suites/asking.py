"""Asking the model about a data set, and reading its answers back: resumable, and shared by all processes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cm3leon_jax.evaluation.suites.work import Work
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import read_json_lines
from cm3leon_jax.runtime.progress import progress
from cm3leon_jax.sampling.pieces import RESULTS_FILE, Pieces
from cm3leon_jax.sampling.request_file import answer_file
from cm3leon_jax.sampling.requests import RequestReader
from cm3leon_jax.sampling.rules import SamplingConfig

Row = dict[str, Any]  # a request, or a result
ReadImage = Callable[[str], np.ndarray]  # what stands for a picture in a request -> uint8 [R, R, 3], or UserError


@dataclasses.dataclass(frozen=True)
class Answers:
    """Results of the requests that could be answered; `places` says which of them these are. The others by reason."""

    places: list[int]
    rows: list[Row]
    unanswered: dict[str, int]

    def best_texts(self, hole: int = 0) -> list[str]:
        """What the best sample of each request has in that hole, counted from 0."""
        return [row["answers"][0]["answer"][hole] for row in self.rows]


def ask(
    work: Work,
    name: str,
    rows: Sequence[Row],
    read_image: ReadImage,
    *,
    sampling: SamplingConfig,
    max_tokens: int = 1,
    samples: int = 1,
    retrieved: int = 0,
) -> Answers:
    """Answers requests into the folder `name` of the suite's; of several samples the best is kept. Raises `UserError`
    where too many cannot be answered."""
    generator = work.models.generator
    reader = RequestReader(
        read_image,
        generator.image_tokenizer.grid,
        sampling,
        retrieved=retrieved,
        samples=samples,
        max_tokens=max_tokens,
    )
    out = work.directory / name
    answer_file(generator, reader, rows, out, piece=work.config.piece, keep=1, label=name)
    return _read(work, name, "answers", len(rows))


def ask_likelihoods(
    work: Work, name: str, rows: Sequence[Row], candidates: Sequence[Sequence[str]], read_image: ReadImage
) -> Answers:
    """For each request for one text how probable each of its `candidates` is, under "logprobs", in nats, and its
    "tokens", the end of the text being one."""
    generator = work.models.generator
    reader = RequestReader(read_image, generator.image_tokenizer.grid, work.sampling, max_tokens=1)
    pieces = Pieces(work.directory / name, len(rows), work.config.piece)
    due, own = pieces.due, sum(map(len, pieces.own.values()))
    left = sum(map(len, due.values()))
    with progress(label=name, total=own, start=own - left, unit="questions") as bar:
        for number, places in due.items():
            pieces.finish(number, _likelihoods(generator, reader, rows, candidates, places, bar))
    hosts.gather(None)
    if hosts.is_first():
        pieces.join()
    return _read(work, name, "logprobs", len(rows))


def _likelihoods(
    generator: Any,
    reader: RequestReader,
    rows: Sequence[Row],
    candidates: Sequence[Sequence[str]],
    places: Sequence[int],
    bar: Any,
) -> list[Row]:
    results: dict[int, Row] = {place: {"request": place} for place in places}
    requests = {}
    for place in places:
        try:
            requests[place] = reader.read(rows[place])
        except UserError as error:
            results[place]["error"] = str(error)
    questions = {}
    for place, asked in zip(requests, generator.ask_all(list(requests.values())), strict=True):
        try:
            if isinstance(asked, UserError):
                raise asked
            questions[place] = generator.question(asked[0], candidates[place])
        except UserError as error:
            results[place]["error"] = str(error)
    for place, scores in zip(questions, generator.logprobs(list(questions.values()), bar=bar), strict=True):
        results[place]["logprobs"] = [round(float(score), 4) for score in scores]
        results[place]["tokens"] = [len(ids) + 1 for ids in questions[place].candidates]
    return list(results.values())


def _read(work: Work, name: str, key: str, asked: int) -> Answers:
    """The results in a folder, once process 0 has joined them. `UserError` where too many have an error."""
    hosts.tell(lambda: None)
    rows = read_json_lines(work.directory / name / RESULTS_FILE)
    if len(rows) != asked:
        raise UserError(f"{work.directory / name} has {len(rows)} results of {asked}; remove that folder to ask again")
    good = [row for row in rows if key in row]
    bad = [(row.get("error", "its result is damaged"), row.get("id", row["request"])) for row in rows if key not in row]
    errors = Counter(reason for reason, _ in bad)
    if len(bad) > work.config.most_left_out * len(rows) or not good:
        usual, _ = errors.most_common(1)[0] if errors else ("there is nothing to ask", 0)
        first = next((f", the first of them {id}" for reason, id in bad if reason == usual), "")
        raise UserError(
            f"{len(bad)} of {len(rows)} requests of {name} were not answered: {usual}{first} (allow a larger share "
            "with SuitesConfig.most_left_out)"
        )
    return Answers([row["request"] for row in good], good, dict(errors))
