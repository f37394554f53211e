"""The table that ends a run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cm3leon_jax.evaluation.results import GOALS, NOT_MEASURED, RULE_NAMES, RULES, duration, percent, ratio, run_note

_STATE = {True: "reached", False: "MISSED", None: "not measured"}


def summary_table(results: Mapping, places: Mapping[str, str] | None = None) -> str:
    """Figures with their goals, shares by sampling rule, seconds by stage and `places` (what -> where it lies)."""
    rows = [("figure", "reached", "goal", "")]
    for goal in GOALS:
        value = goal.value(results)
        shown = NOT_MEASURED if value is None else goal.show(value)
        rows.append((goal.title, shown, goal.target_text(), _STATE[goal.reached(results)]))
    blocks = [_aligned(rows, rule_after_first=True)]
    if note := run_note(results):
        blocks.insert(0, note)

    ceiling = results["text_to_image"]["ceiling"]
    shares = []
    for rule in RULES:
        value = results["text_to_image"][rule]
        relative = ratio(value, ceiling)
        of_ceiling = "" if relative is None else f"{percent(relative)} of the ceiling"
        shares.append((f"  {RULE_NAMES[rule]}", NOT_MEASURED if value is None else percent(value), of_ceiling))
    shares.append(
        ("  ceiling", NOT_MEASURED if ceiling is None else percent(ceiling), "true images through the tokenizer")
    )
    blocks.append("Stated facts found in generated images\n" + _aligned(shares))

    stages = [(stage, seconds) for stage, seconds in results["seconds"].items() if seconds is not None]
    if stages:
        blocks.append("Time\n" + _aligned([(f"  {stage}", duration(seconds)) for stage, seconds in stages]))
    if places:
        blocks.append("Where things lie\n" + _aligned([(f"  {what}", str(where)) for what, where in places.items()]))
    return "\n\n".join(blocks)


def _aligned(rows: Sequence[tuple[str, ...]], *, rule_after_first: bool = False) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if rule_after_first:
        lines.insert(1, "  ".join("─" * width for width in widths if width))
    return "\n".join(lines)
