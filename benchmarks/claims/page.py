"""docs/claims.md: what the results say, in words, tables and pictures."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from benchmarks.claims.chart import svg
from benchmarks.claims.section import Section
from cm3leon_jax.runtime.files import written_aside

PICTURE = "claims.png"

_INTRODUCTION = """# What the paper claims, tested at the scale that can be run here

CM3Leon's claims, tested with decoders of {millions:.1f} million parameters that were trained for {steps:,} steps on
pictures of named creatures. Where nothing else is said, a figure is the share of the creatures asked for that were
drawn right and in their place, with its 95% interval over pictures and {seeds} training runs.
`python -m benchmarks.claims` makes all of it and writes this page.

| claim | verdict |
|---|---|
{verdicts}

![Held-out captions, what was retrieved and what was drawn]({picture})

The first test pictures of known creatures, then of creatures that only the memory bank holds, not chosen: the true
ones, the best retrieved document, and what the first decoder trained with retrieval drew with none, one and two
documents."""

_CLAIM = """## {title}

{claim} **This {verdict}.**

| compared | difference | above zero |
|---|---|---|
{tests}

{how}

{table}

{charts}"""

_HOW = """## How it was done

The world has {creatures:,} creatures, each a name of three syllables and a sprite of one of {parts} heads and one of
{parts} bodies, so that a name tells nothing about looks. {bank_only:,} of them are in no training picture of any
decoder: only the memory bank at inference shows them. No test picture, who and where, is in training or in the bank; so
a retrieved document shows the creature in another place or in other company. The tokenizers and the retriever are
trained on all creatures, as the paper's CLIP is frozen and has seen far more than its decoder; documents are found by
the caption alone. Two things differ from the paper's retrieval, because a name is all that a creature can be found by:
nothing is dropped from training queries, and documents may be as similar to the query as they are (threshold 0.999).

Settings of sampling were chosen by the first seed's decoders on {validation} validation pictures: the weight of
guidance for each purpose ({weights}) by its score, those of top-p and CD-K by the score of the picture that CLIP
chooses of {best_of}. Test pictures were drawn with these. Intervals draw pictures and seeds with replacement (2,000
times); {seeds} seeds are few, so of other training runs they say little. A claim holds here if all of its differences
are above zero with their whole interval, in part if some are.

It took {hours:.1f} hours on {machine}. All figures are in `results.json` of the study's folder."""


def write_page(docs: pathlib.Path, sections: Sequence[Section], about: dict[str, Any]) -> pathlib.Path:
    """Writes docs/claims.md and the charts beside it. `about`: what is said of the study beside the claims."""
    for section in sections:
        for chart in section.charts:
            _write(docs / f"{chart.name}.svg", svg(chart))
    page = docs / "claims.md"
    _write(page, "\n\n".join([_introduction(sections, about), *map(_claim, sections), _how(about)]) + "\n")
    return page


def _write(path: pathlib.Path, text: str) -> None:
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _introduction(sections: Sequence[Section], about: dict[str, Any]) -> str:
    verdicts = [f"| [{section.title}](#{_anchor(section.title)}) | {section.verdict} |" for section in sections]
    millions = about["parameters"] / 1e6
    return _INTRODUCTION.format_map(about | {"millions": millions, "verdicts": "\n".join(verdicts), "picture": PICTURE})


def _claim(section: Section) -> str:
    tests = [
        f"| {name} | {value.points} | {'yes' if value.low > 0 else 'no'} |" for name, value in section.tests.items()
    ]
    lines = [section.head, ["---"] * len(section.head), *section.rows]
    return _CLAIM.format(
        title=section.title,
        claim=section.claim,
        verdict=section.verdict,
        tests="\n".join(tests),
        how=section.how,
        table="\n".join(f"| {' | '.join(line)} |" for line in lines),
        charts="\n".join(f"![{chart.title}]({chart.name}.svg)" for chart in section.charts),
    ).rstrip()


def _how(about: dict[str, Any]) -> str:
    weights = ", ".join(f"{name.replace('_', ' ')}: {value:g}" for name, value in about["weights"].items())
    return _HOW.format_map(about | {"weights": weights})


def _anchor(title: str) -> str:
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -")
    return kept.replace(" ", "-")
