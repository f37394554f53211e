"""Many requests: answered piece by piece (`pieces.py`), by several processes in turn, continued where they stopped.

A piece's pictures are written first and then its results. Which process answers it changes nothing: a result depends on
the request and its seed.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import PIL.Image

from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.files import Path, local_path, open_to_read, read_json_lines, written_aside
from cm3leon_jax.runtime.progress import progress
from cm3leon_jax.sampling.answers import Drawn
from cm3leon_jax.sampling.pieces import RESULTS_FILE, Pieces
from cm3leon_jax.sampling.pipeline import Generator
from cm3leon_jax.sampling.requests import Request, RequestReader


@dataclasses.dataclass(frozen=True)
class Speed:
    """What all processes drew since they started, and in how many seconds."""

    samples: int
    seconds: float

    def __str__(self) -> str:
        rate = self.samples / self.seconds if self.seconds else 0.0
        return f"{self.samples:,} samples in {self.seconds:,.0f} s, {rate:.2f} a second"


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The lines of a file of requests. `UserError`: it is missing or empty, or a line is not a JSON object."""
    rows, number = [], 0
    try:
        with open_to_read(file) as lines:
            for line in lines:
                number += 1
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("it is another value")
                    rows.append(row)
    except OSError as error:
        raise UserError(f"the requests in {file} cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"line {number} of {file} is not a JSON object: {error}") from None
    if not rows:
        raise UserError(f'{file} has no requests; write one JSON object a line, such as {{"prompt": "a red circle"}}')
    return rows


def answer_file(
    generator: Generator,
    reader: RequestReader,
    rows: Sequence[dict[str, Any]],
    out: Path,
    *,
    piece: int,
    keep: int,
    label: str = "drawing",
) -> Speed:
    """Answers the requests of `rows` into the folder `out`: pictures, and `results.jsonl` at the end.

    `piece` requests are finished at once; the `keep` best samples of each are kept (0: all). A request that cannot be
    answered has an `error` in its result.
    """
    out = local_path(out)
    pieces = Pieces(out, len(rows), piece)
    due = pieces.due
    wanted, left = (
        sum(_samples(rows[place], reader) for some in each.values() for place in some) for each in (pieces.own, due)
    )
    started, drawn = time.perf_counter(), 0
    with progress(label=label, total=wanted, start=wanted - left, unit="samples") as bar:
        for number, places in due.items():
            some = [(place, rows[place]) for place in places]
            results = answer_rows(generator, reader, some, out, f"pictures/{number:05d}", keep=keep, bar=bar)
            pieces.finish(number, results)
            answered = ["error" not in result for result in results]
            drawn += sum(_samples(row, reader) for (_, row), there in zip(some, answered, strict=True) if there)
            bar.update(sum(_samples(row, reader) for (_, row), there in zip(some, answered, strict=True) if not there))
    everyone = hosts.gather({"samples": drawn, "seconds": time.perf_counter() - started})
    if hosts.is_first():
        pieces.join()
    return Speed(sum(one["samples"] for one in everyone), max(one["seconds"] for one in everyone))


def tell_of(out: Path, speed: Speed) -> None:
    """Prints what was done; process 0 does. Raises `UserError` where requests could not be answered."""
    if not hosts.is_first():
        return
    print(f"{speed}; {local_path(out) / RESULTS_FILE}", flush=True)
    results = read_json_lines(local_path(out) / RESULTS_FILE)
    wrong = [result for result in results if "error" in result]
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(results)} requests were not answered, their results say why; number "
            f"{wrong[0]['request']}: {wrong[0]['error']}"
        )


def answer_rows(
    generator: Generator,
    reader: RequestReader,
    rows: Sequence[tuple[int, dict[str, Any]]],
    out: pathlib.Path,
    folder: str = "",
    *,
    keep: int = 0,
    label: str | None = None,
    bar: Any = None,
) -> list[dict[str, Any]]:
    """Numbered requests -> their results: the request with its samples, the best first, and the captions of the
    documents that were retrieved; or with an `error`. Pictures go to `folder` in `out`; results name them from there.
    """
    results: list[dict[str, Any]] = [{"request": number} | row for number, row in rows]
    requests: list[Request] = []
    places: list[int] = []
    for place, (_, row) in enumerate(rows):
        try:
            requests.append(reader.read(row))
            places.append(place)
        except UserError as error:
            results[place]["error"] = str(error)
    ready = []
    for place, request, asked in zip(places, requests, generator.ask_all(requests), strict=True):
        if isinstance(asked, UserError):
            results[place]["error"] = str(asked)
        else:
            ready.append((place, request, *asked))
    generations = generator.run(
        [prompt for _, _, prompt, _ in ready],
        [request.sampling for _, request, _, _ in ready],
        [request.samples for _, request, _, _ in ready],
        label=label,
        bar=bar,
    )
    for (place, _, _, retrieved), samples in zip(ready, generator.drawn(generations), strict=True):
        name = f"{results[place]['request']:06d}"
        results[place] |= {
            "answers": [
                _saved(one, out, f"{folder}/{name}_{rank}") for rank, one in enumerate(samples[: keep or None])
            ],
            "documents": [document.caption for document in retrieved],
        }
    return results


def _samples(row: dict[str, Any], reader: RequestReader) -> int:
    value = row.get("samples", reader.samples)
    return value if isinstance(value, int) and value > 0 else 1


def _saved(one: Drawn, out: pathlib.Path, name: str) -> dict[str, Any]:
    """Writes the pictures; a document's are numbered where there are several."""
    files = []
    for place, image in enumerate(one.images):
        file = (f"{name}.png" if len(one.images) == 1 else f"{name}_{place}.png").lstrip("/")
        with written_aside(out / file) as aside:
            PIL.Image.fromarray(image).save(aside, "PNG")
        files.append(file)
    scores = {"logprob": round(one.logprob, 4)}
    if one.clip_score is not None:
        scores["clip_score"] = round(one.clip_score, 4)
    return {"images": files, "texts": one.texts, "answer": one.answer} | scores
