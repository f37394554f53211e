"""The sections of the report that show goals, time and settings."""

from __future__ import annotations

from collections.abc import Mapping

from cm3leon_jax.evaluation.results import (
    GOALS,
    NOT_MEASURED,
    Goal,
    duration,
    percent,
    ratio,
    run_note,
    unsteered_share,
)
from cm3leon_jax.pages.pieces import command, section, text


def goals_section(results: Mapping) -> str:
    """Tiles, then every missed bar in words, then the notes of the run (`details.notes`, a list of sentences)."""
    tiles = "".join(_tile(goal, results) for goal in GOALS)
    missed = [_missed(goal, results) for goal in GOALS if goal.reached(results) is False]
    notes = [text(note) for note in results["details"].get("notes", [])]
    words = "".join(f"<li>{item}</li>" for item in [*missed, *notes])
    if all(goal.reached(results) for goal in GOALS):
        lead = "Every goal of this run was reached."
    elif missed:
        lead = f"{len(missed)} of {len(GOALS)} goals {'was' if len(missed) == 1 else 'were'} missed:"
    else:
        lead = ""
    words = f'<ul class="words">{words}</ul>' if words else ""
    return section(
        "goals",
        "Goals and what was reached",
        run_note(results),
        f'<div class="tiles">{tiles}</div>',
        _lead(lead),
        words,
    )


def time_section(results: Mapping) -> str:
    stages = {name: s for name, s in results["seconds"].items() if name != "total" and s is not None}
    longest = max(stages.values(), default=0) or 1
    bars = "".join(
        f'<li><span class="stage">{text(stage.replace("_", " "))}</span><span class="track">'
        f'<span class="bar" style="width:{100 * seconds / longest:.1f}%"></span></span>'
        f'<span class="amount">{duration(seconds)}</span></li>'
        for stage, seconds in stages.items()
    )
    total = results["seconds"]["total"]
    lead = f"{duration(total)} in all." if total is not None else ""
    return section(
        "time",
        "Where the time went",
        lead,
        f'<ul class="bars">{bars}</ul>' if bars else "",
        missing=command("cm3leon demo"),
    )


def settings_section(settings: Mapping[str, str]) -> str:
    """`settings`: name -> the operative gin configuration as text."""
    folds = "".join(
        f"<details><summary>{text(name)}</summary><pre>{text(config.strip())}</pre></details>"
        for name, config in settings.items()
    )
    return section(
        "settings",
        "Settings",
        "Everything that was configured, as gin wrote it down. Each can be passed to its command with --gin_file.",
        folds,
        missing="every command writes its operative gin configuration beside its output",
    )


def _lead(words: str) -> str:
    return f'<p class="lead">{text(words)}</p>' if words else ""


def _tile(goal: Goal, results: Mapping) -> str:
    value, reached = goal.value(results), goal.reached(results)
    state = {True: "reached", False: "missed", None: "unmeasured"}[reached]
    word = {True: "✓ reached", False: "not reached", None: "not measured"}[reached]
    extra = ""
    if goal is GOALS[0]:
        without = ratio(unsteered_share(results), results["text_to_image"]["ceiling"])
        extra = f'<p class="beside">without guidance: {percent(without)}</p>' if without is not None else ""
    return (
        f'<div class="tile {state}"><h3>{text(goal.title)}</h3>'
        f'<p class="value">{NOT_MEASURED if value is None else text(goal.show(value))}</p>'
        f'<p class="goal"><span class="state">{word}</span> goal: {text(goal.target_text())}</p>'
        f'<p class="meaning">{text(goal.meaning)}</p>{extra}</div>'
    )


def _missed(goal: Goal, results: Mapping) -> str:
    value = goal.value(results)
    assert value is not None
    return f"<b>{text(goal.title)}</b>: {text(goal.show(value))} where the goal was {text(goal.target_text())}."
