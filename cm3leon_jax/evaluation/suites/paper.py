"""Our row of CM3Leon's tables 1 and 2 beside the published ones, from what the suites measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cm3leon_jax.evaluation.suites.config import SuitesConfig
from cm3leon_jax.evaluation.suites.paper_rows import DRAWN, FID, TASKS, Measured
from cm3leon_jax.evaluation.suites.result import NOT_MEASURED, Figure
from cm3leon_jax.evaluation.suites.text_to_image import documents
from cm3leon_jax.evaluation.suites.writing import markdown_table, write_text
from cm3leon_jax.pages.page import Part, whole_page
from cm3leon_jax.pages.pieces import section, table
from cm3leon_jax.runtime.files import Path, as_path, write_json

OURS = "this model"
_TITLE = "The paper's tables"


@dataclasses.dataclass(frozen=True)
class PaperTable:
    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def paper_tables(results: Mapping[str, Mapping[str, Any]], config: SuitesConfig) -> tuple[list[PaperTable], list[str]]:
    """Suite -> its `result.json`, as far as it was run -> the tables, and a line for each figure that is missing: what
    to set for it."""
    drawn, missing = [(row.model, _documents(row.documents), f"{row.fid:.2f}") for row in DRAWN], []
    for count in config.retrieved:
        where = FID._replace(data=documents(count))
        drawn.append((OURS, _documents(count), _shown(results, where)))
    if all(shown == NOT_MEASURED for _, _, shown in drawn[len(DRAWN) :]):
        missing.append(
            f"FID: set SuitesConfig.{FID.setting}, and SuitesConfig.network_weights to the file of Inception's weights"
        )
    tasks = []
    for task in TASKS:
        ours = _shown(results, task.measured)
        published = [NOT_MEASURED if figure is None else f"{figure:.1f}" for figure in (task.cm3leon, task.flamingo)]
        tasks.append((task.name, *published, ours))
        if ours == NOT_MEASURED:
            missing.append(f"{task.name}: set SuitesConfig.{task.measured.setting}")
    return [
        PaperTable(
            "Table 1: zero-shot text to image, MS-COCO, 30,000 captions", ("model", "retrieved documents", "FID"), drawn
        ),
        PaperTable(
            "Table 2: captions and questions", ("task", "SFT-CM3Leon-7B", "Flamingo-9B, zero-shot", OURS), tasks
        ),
    ], missing


def write_paper(directory: Path, results: Mapping[str, Mapping[str, Any]], config: SuitesConfig) -> str:
    """Writes `result.json`, `result.md` and `result.html` -> the Markdown text."""
    tables, missing = paper_tables(results, config)
    folder = as_path(directory)
    text = f"# {_TITLE}\n\n" + "".join(
        f"## {each.title}\n\n{markdown_table(each.head, each.rows)}\n" for each in tables
    )
    text += "".join(f"- {line}\n" for line in missing)
    parts = [
        Part(
            f"table{number}",
            f"Table {number}",
            section(f"table{number}", each.title, "", table(each.head, each.rows, caption="Ours with 95% intervals")),
        )
        for number, each in enumerate(tables, start=1)
    ]
    page = whole_page(
        parts,
        title=_TITLE,
        eyebrow="evaluation",
        introduction="The published figures are those of Yu et al. 2023 (arXiv 2309.02591); intervals, where given, "
        "are the 95% bootstrap's over examples. Figures compare only where data and settings are the same.",
        facts={suite: next(iter(result.get("models", {}).values()), "") for suite, result in results.items()},
        footer=" ".join(f"{line}." for line in missing) or "Every figure of ours was measured.",
    )
    write_text(folder / "result.html", page)
    write_text(folder / "result.md", text)
    rows = [{"title": each.title, "head": each.head, "rows": each.rows} for each in tables]
    write_json(folder / "result.json", {"suite": "paper", "tables": rows, "missing": missing})
    return text


def _shown(results: Mapping[str, Mapping[str, Any]], where: Measured) -> str:
    for figure in results.get(where.suite, {}).get("figures", ()):
        if (figure["data"], figure["name"]) == (where.data, where.figure):
            return " ".join(part for part in Figure(**figure).shown() if part)
    return NOT_MEASURED


def _documents(count: int | None) -> str:
    return NOT_MEASURED if count is None else str(count)
