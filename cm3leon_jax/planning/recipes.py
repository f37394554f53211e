"""A table of plans: each model size on many slices, as a page that says what to launch (docs/recipes.md)."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from cm3leon_jax.planning.chips import GIB, parse_slice

# (model, hardware file) -> what `cm3leon plan --json` wrote, a plan (`plan.plan_training`). Where the step does not fit
# it has an `error`, and is the plan of the smallest change that fits, with its `changes`; or none, if no change helps.
Plans = Mapping[tuple[str, str], dict[str, Any]]

_HEAD = """# What to launch where

Made by `cm3leon recipes`, which compiles the pretraining step (`runs/pretrain`: 2,048 rows of 4,096 tokens a step)
for the slices below with the TPU's compiler. Nothing here was measured on a TPU: [planning.md](planning.md) says how
the figures come about, and where they can't be trusted.{made_with}{not_planned}

A row is launched with
```
launch/tpu_run.sh NAME --type SLICE --config "models/MODEL hardware/HARDWARE runs/pretrain" --zone … --bucket … -- …
```
`rows` are the rows of the batch that a chip has, and works through at once; `moved`: bytes a chip sends a step inside
its slice, and to the other slice; `days`: of the whole run, whose steps stand above each table. What does not fit as
the files are has a star, and below the table what to set; its row is with that.
"""
_COLUMNS = ("hardware", "chips", "rows", "remat", "memory", "moved", "step", "MFU", "tokens/s/chip", "days")


def page(plans: Plans, known: Sequence[str] = ()) -> str:
    """The page, Markdown. `known`: all hardware files that might have been planned, of which it says what was not."""
    planned = {name for _, name in plans}
    missing = ", ".join(f"`{name}`" for name in sorted(set(known) - planned, key=_order))
    not_planned = f"\nHardware files that are not planned here: {missing}." if missing else ""
    parts = [_HEAD.format(made_with=_made_with(plans), not_planned=not_planned)]
    sizes: dict[str, list[tuple[str, dict[str, Any]]]] = collections.defaultdict(list)
    for (model, hardware), plan in plans.items():
        sizes[model].append((hardware, plan))
    for model, found in sizes.items():
        found.sort(key=lambda each: _order(each[0]))
        rows = [_row(hardware, plan) for hardware, plan in found]
        parts.append(f"## {model}\n" + "\n".join([*_run(found), *_table(_COLUMNS, rows), *_notes(found)]) + "\n")
    return "\n".join(parts)


def _made_with(plans: Plans) -> str:
    """The versions that the plans name, which may be others than are installed now; nothing if no plan names any."""
    versions = {
        ", ".join(f"{package} {version}" for package, version in sorted(plan["versions"].items()))
        for plan in plans.values()
        if plan.get("versions")
    }
    return f" Made with {' and with '.join(sorted(versions))}." if versions else ""


def _run(found: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """How long the run is that the days are of."""
    runs = sorted({(plan["steps"], plan["tokens_per_step"]) for _, plan in found if "steps" in plan})
    said = " or ".join(f"{steps:,} steps of {tokens / 1e6:.1f}M tokens" for steps, tokens in runs)
    return [f"{said}.", ""] if said else []


def _row(hardware: str, plan: dict[str, Any]) -> list[str]:
    if "chips" not in plan:
        return [f"{hardware} *", *["-"] * (len(_COLUMNS) - 1)]
    settings, moved = plan["settings"], plan["collective_bytes"]
    inside, between = (sum(moved[network].values()) / 1e9 for network in ("ici", "dcn"))
    return [
        f"{hardware} *" if "error" in plan else hardware,
        str(plan["chips"]),
        f"{settings['batch_size'] // plan['chips']}, {settings['per_device_batch_size']}",
        settings["remat"],
        f"{plan['hbm_bytes_per_chip'] / GIB:.1f} of {plan['hbm_capacity_bytes'] / GIB:.1f} GiB",
        f"{inside:.0f} GB" + (f" + {between:.1f} GB" if between else ""),
        f"{plan['predicted_step_seconds']:.2f} s",
        f"{plan['predicted_mfu']:.1%}",
        f"{plan['tokens_per_second_per_chip']:,.0f}",
        f"{plan['days']:.1f}",
    ]


def _notes(found: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    lines = []
    for hardware, plan in found:
        if "error" in plan:
            changes = " ".join(f'"--gin.{change}"' for change in plan.get("changes", []))
            advice = f"add `{changes}`" if changes else "take a larger slice"
            lines.append(f"- {hardware} *: {advice}")
    return ["", *lines] if lines else []


def _order(hardware: str) -> tuple[str, int, int]:
    """By generation, then one slice before two, then size: "v5e_256_x2" -> ("v5e", 2, 512)."""
    generation, size, *slices = hardware.split("_")
    count = int(slices[0].removeprefix("x")) if slices else 1
    return generation, count, count * parse_slice(f"{generation}-{size}").chips


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows)]
