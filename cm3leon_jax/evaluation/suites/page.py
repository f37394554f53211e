"""The page of a suite: its figures, a few examples with their pictures, and the settings. It needs no other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cm3leon_jax.evaluation.suites.result import Shown, SuiteResult
from cm3leon_jax.pages.page import Part, whole_page
from cm3leon_jax.pages.pieces import picture, section, table, text

if TYPE_CHECKING:
    from cm3leon_jax.evaluation.suites.writing import About

_LARGEST = 384  # pixels of a picture's side


def result_page(result: SuiteResult, rows: Sequence[Sequence[str]], head: Sequence[str], about: About) -> str:
    """`rows`: the figures as texts, under `head`."""
    figures = section(
        "figures",
        "Figures",
        "Intervals are those of the bootstrap over examples: how far the figure would move with others like them.",
        table(head, rows, caption=about.summary) + _list(result.notes),
    )
    parts = [Part("figures", "Figures", figures)]
    if result.shown:
        shown = section("examples", "Examples", "Not chosen: the first that were asked.", _cards(result.shown))
        parts.append(Part("examples", "Examples", shown))
    counts = section("data", "Data", "", _counts(result))
    settings = json.dumps(about.made_with, indent=2, ensure_ascii=False)
    parts += [
        Part("data", "Data", counts),
        Part("settings", "Settings", section("settings", "Settings", "", f"<pre>{text(settings)}</pre>")),
    ]
    return whole_page(
        parts,
        title=f"{about.suite}: {about.summary}",
        eyebrow="evaluation",
        introduction=f"What `cm3leon evaluate --suite {about.suite}` measured.",
        facts={**about.models, "version": about.version, "commit": about.commit and about.commit[:12]},
        footer="Every figure on this page was measured; what was not is shown as —.",
    )


def _cards(shown: Sequence[Shown]) -> str:
    return f'<div class="cards two">{"".join(_card(example) for example in shown)}</div>'


def _card(example: Shown) -> str:
    """One picture stands beside the texts, several above them."""
    lines = "".join(f"<p><strong>{text(name)}</strong> {text(said)}</p>" for name, said in example.lines)
    if len(example.pictures) == 1:
        ((label, image),) = example.pictures
        words = f'<p class="note">{text(label)}</p>' if label else ""
        drawn = picture(image, label or example.title, largest=_LARGEST)
        return f'<article class="card caption">{drawn}<div><h3>{text(example.title)}</h3>{words}{lines}</div></article>'
    pictures = "".join(
        f"<li>{picture(image, label, largest=_LARGEST)}<p>{text(label)}</p></li>" for label, image in example.pictures
    )
    return f'<article class="card"><h3>{text(example.title)}</h3><ul class="shots">{pictures}</ul>{lines}</article>'


def _counts(result: SuiteResult) -> str:
    rows = []
    for name, count in result.counts.items():
        rows.append((name, count.source, f"{count.scored:,}"))
        for what, reasons in (("left out", count.left_out), ("not answered", count.unanswered)):
            rows += [(what, reason, f"{number:,}") for reason, number in sorted(reasons.items())]
    return table(("data set", "source or reason", "examples"), rows, caption="What was scored, and what was not")


def _list(lines: Sequence[str]) -> str:
    return f'<ul class="words">{"".join(f"<li>{text(line)}</li>" for line in lines)}</ul>' if lines else ""
