"""The files of a suite: `result.json`, the same as a Markdown table, and a page with examples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cm3leon_jax.evaluation.suites.page import result_page
from cm3leon_jax.evaluation.suites.result import Count, SuiteResult
from cm3leon_jax.runtime.files import Path, as_path, write_json, written_aside

RESULT_FILE, TABLE_FILE, PAGE_FILE = "result.json", "result.md", "result.html"
HEAD = ("data", "figure", "value", "95% interval", "examples")


@dataclasses.dataclass(frozen=True)
class About:
    """What a result was made with; all JSON-able."""

    suite: str
    summary: str
    settings: dict[str, Any]
    seeds: dict[str, int]
    models: dict[str, str]  # name -> fingerprint of the exact weights
    fingerprints: dict[str, str]  # of data sets and other files, by their settings' names
    version: str
    commit: str | None

    @property
    def made_with(self) -> dict[str, Any]:
        """All but what models are, which stands above them."""
        return {"settings": self.settings, "seeds": self.seeds, "fingerprints": self.fingerprints}


def write_result(directory: Path, result: SuiteResult, about: About) -> None:
    """Each file is there whole or not at all; `result.json` comes last."""
    folder = as_path(directory)
    rows = figure_rows(result)
    for file, text in (
        (PAGE_FILE, result_page(result, rows, HEAD, about)),
        (TABLE_FILE, _markdown(rows, result, about)),
    ):
        write_text(folder / file, text)
    write_json(folder / RESULT_FILE, dataclasses.asdict(about) | result.to_dict())


def write_text(path: Path, text: str) -> None:
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def figure_rows(result: SuiteResult) -> list[tuple[str, ...]]:
    """The figures as texts, under `HEAD`."""
    return [(each.data, each.name, *each.shown(), f"{each.examples:,}") for each in result.figures]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def not_scored(counts: Mapping[str, Count]) -> list[str]:
    """A line for each data set of which something was not scored."""
    lines = []
    for name, count in counts.items():
        for what, reasons in (("left out", count.left_out), ("not answered", count.unanswered)):
            if reasons:
                first = max(reasons, key=lambda reason: reasons[reason])
                lines.append(f"{name}: {sum(reasons.values()):,} {what}, most often: {first}")
    return lines


def _markdown(rows: Sequence[Sequence[str]], result: SuiteResult, about: About) -> str:
    made_with = [f"{name} `{fingerprint}`" for name, fingerprint in about.models.items()]
    lines = [f"{name}: {count.source}, {count.scored:,} examples" for name, count in result.counts.items()]
    lines += [*not_scored(result.counts), *result.notes]
    lines.append(f"made with cm3leon_jax {about.version}: {', '.join(made_with)}" if made_with else "")
    notes = "".join(f"- {line}\n" for line in lines if line)
    settings = json.dumps(about.made_with, indent=2, ensure_ascii=False)
    return (
        f"# {about.suite}: {about.summary}\n\n{markdown_table(HEAD, rows)}\n{notes}\n"
        f"## Settings\n```json\n{settings}\n```\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
