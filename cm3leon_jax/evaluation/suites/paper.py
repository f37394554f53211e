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
NOT_PUBLISHED = "not published"
_TITLE = "The paper's tables"
_CAPTION = "Ours with 95% intervals and the number of examples"


@dataclasses.dataclass(frozen=True)
class PaperTable:
    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    figures: Sequence[dict[str, Any] | None]  # ours, in the order of the rows, as `result.json` of the suites has them


def paper_tables(results: Mapping[str, Mapping[str, Any]], config: SuitesConfig) -> tuple[list[PaperTable], list[str]]:
    """Suite -> its `result.json`, as far as it was run -> the tables, and a line for each figure that is missing: what
    to set for it."""
    of_drawn: list[dict[str, Any] | None] = []
    drawn, missing = [(row.model, _documents(row.documents), f"{row.fid:.2f}") for row in DRAWN], []
    for count in config.retrieved:
        figure = _figure(results, FID._replace(data=documents(count)))
        of_drawn.append(figure)
        drawn.append((OURS, _documents(count), _shown(figure)))
    if not any(of_drawn):
        missing.append(
            f"FID: set SuitesConfig.{FID.setting}, and SuitesConfig.network_weights to the file of Inception's weights"
        )
    tasks = []
    of_tasks = [_figure(results, task.measured) for task in TASKS]
    for task, figure in zip(TASKS, of_tasks, strict=True):
        published = [
            NOT_PUBLISHED if value is None else f"{value:.1f}"
            for value in (task.cm3leon, task.open_flamingo, task.flamingo)
        ]
        tasks.append((task.name, *published, _shown(figure)))
        if figure is None:
            missing.append(f"{task.name}: set SuitesConfig.{task.measured.setting}")
    return [
        PaperTable(
            "Table 1: zero-shot text to image, MS-COCO, 30,000 captions",
            ("model", "retrieved documents", "FID"),
            drawn,
            of_drawn,
        ),
        PaperTable(
            "Table 2: captions and questions, zero-shot",
            ("task", "SFT-CM3Leon-7B", "OpenFlamingo-9B, on validation sets", "Flamingo-9B", OURS),
            tasks,
            of_tasks,
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
            section(f"table{number}", each.title, "", table(each.head, each.rows, caption=_CAPTION)),
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
    rows = [dataclasses.asdict(each) for each in tables]
    write_json(folder / "result.json", {"suite": "paper", "tables": rows, "missing": missing})
    return text


def _figure(results: Mapping[str, Mapping[str, Any]], where: Measured) -> dict[str, Any] | None:
    """The one that stands there, with its suite; None where it was not measured."""
    for figure in results.get(where.suite, {}).get("figures", ()):
        if (figure["data"], figure["name"]) == (where.data, where.figure) and figure["value"] is not None:
            return figure | {"suite": where.suite}
    return None


def _shown(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return NOT_MEASURED
    fields = {field.name: figure[field.name] for field in dataclasses.fields(Figure)}
    found = Figure(**fields)
    return f"{' '.join(part for part in found.shown() if part)}, {found.examples:,} examples"


def _documents(count: int | None) -> str:
    return "none" if count is None else str(count)
